#!/bin/bash
# A compiler under load: each request is a program of one file, compiled and linked.
here=$(dirname "$0")
. "$here/stretch.sh"

compile_load() { local n; for n in $(seq "$1"); do gcc -O2 -o /tmp/sum /tmp/sum.c || exit 1; done; echo "$1"; }

cat > /tmp/sum.c <<'END'
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    long sum = 0;
    for (int i = 1; i < argc; i++)
        sum += strtol(argv[i], NULL, 10);
    printf("%ld\n", sum);
    return 0;
}
END
compile_load 1 > /dev/null
[ "$(/tmp/sum 40 2)" = 42 ] || exit 1
for n in 2 6; do stretch small_compile compile_load $n; done
echo VERDICT SUCCESS
