# A compiler: a program of many files, one process after the other.
mkdir -p /tmp/gcc
for n in $(seq 12); do
    cat > "/tmp/gcc/part$n.c" <<END
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int part$n(int x) { char text[32]; snprintf(text, sizeof(text), "%d", x * $n); return atoi(text) + (int)strlen(text); }
END
done
{
    echo '#include <stdio.h>'
    seq -f 'int part%g(int);' 12
    echo 'int main(void) { int sum = 0;'
    seq -f '    sum += part%g(1000);' 12
    echo '    printf("%d\n", sum); return 0; }'
} > /tmp/gcc/main.c
runs gcc-compiles 240 bash -c 'cd /tmp/gcc && for f in *.c; do gcc -O2 -c $f || exit; done && gcc -o sum *.o'
ok gcc-result "$(/tmp/gcc/sum)" 78051
