/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* cc -O2 -I../include getpid.c && ./a.out */
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "x-calls.h"

int main(void)
{
	if (!x_calls_available()) {
		printf("no table here; by the instruction: %d\n", getpid());
		return 0;
	}
	printf("by the table: %ld, by the instruction: %d\n",
	       x_call(SYS_getpid, 0, 0, 0, 0, 0, 0), getpid());
	return 0;
}
