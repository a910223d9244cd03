/* SPDX-License-Identifier: Apache-2.0 */
/* powerbtn: powers the guest off when the ACPI power button is pressed. */
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#define MAX 16

static void say(const char *text)
{
	int fd = open("/dev/ttyS0", O_WRONLY | O_NOCTTY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		perror("ttyS0");
	if (fd >= 0)
		close(fd);
}

int main(void)
{
	struct pollfd p[MAX];
	struct input_event e;
	char name[64];

	for (int i = 0; i < MAX; i++)
		p[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
	for (;;) {
		/* Buttons may come later than we do. */
		for (int i = 0; i < MAX; i++) {
			if (p[i].fd >= 0)
				continue;
			snprintf(name, sizeof(name), "/dev/input/event%d", i);
			p[i].fd = open(name, O_RDONLY | O_NONBLOCK);
		}
		poll(p, MAX, 1000);
		for (int i = 0; i < MAX; i++) {
			if (p[i].fd < 0 || !p[i].revents)
				continue;
			ssize_t n = read(p[i].fd, &e, sizeof(e));

			if (n != (ssize_t)sizeof(e)) {
				close(p[i].fd);
				p[i].fd = -1;
			} else if (e.type == EV_KEY && e.code == KEY_POWER && e.value == 1) {
				say("\nGUEST POWERBUTTON\n");
				usleep(100000);
				sync();
				reboot(RB_POWER_OFF);
			}
		}
	}
}
