/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold PARENT COMMAND...: runs COMMAND such that it dies with the process PARENT, its parent, even
 * if that is killed by SIGKILL and can clean up nothing.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: hold PARENT COMMAND...\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* It may have died before we asked. */
	if (getppid() != (pid_t)atol(argv[1]))
		return 1;
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 127;
}
