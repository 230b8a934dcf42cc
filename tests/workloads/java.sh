# The Java virtual machine compiles a web server and runs it.
. "$here/http.sh"
mkdir -p /tmp/java
cat > /tmp/java/Server.java <<'END'
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

public class Server {
    public static void main(String[] arguments) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 8083), 0);
        server.createContext("/", exchange -> {
            byte[] body = "hello\n".getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
    }
}
END
# Where it is by its package; the link in /usr/bin is made by a script of that, which has not run.
serves java 8083 240 /usr/lib/jvm/java-17-openjdk-amd64/bin/java /tmp/java/Server.java
