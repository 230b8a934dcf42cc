//! A web server with a thread for each connection, as a program in Rust: `server PORT` says hello to whoever asks.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Answers requests until the other end has no more, or speaks HTTP/1.0.
fn serve(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut requests = BufReader::new(stream);
    let mut line = String::new();
    let mut one_only = false;
    while requests.read_line(&mut line)? > 0 {
        one_only |= line.ends_with("HTTP/1.0\r\n");
        if line == "\r\n" {
            (&mut &*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")?;
            if one_only {
                break;
            }
        }
        line.clear();
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|p| p.parse().ok()).ok_or_else(|| io::Error::other("usage: server PORT"))?;
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            // Who goes away in the middle of a request is no one else's problem.
            let _ = serve(&stream);
        });
    }
    Ok(())
}
