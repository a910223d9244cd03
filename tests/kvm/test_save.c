/* SPDX-License-Identifier: Apache-2.0 */
/* Saving and restoring at random points: every register and every page. */
#include "harness.h"

#include "base/util.h"
#include "guest.h"
#include "migration/frame.h"
#include "migration/snapshot.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

Test(save, every_register_and_page)
{
	unsigned seed = 11;

	for (int i = 0; i < 6; i++) {
		struct guest *g = guest_boot(i & 1 ? "dirtier" : "mixer", 1 + i % 2, 128), *h;

		guest_run_us(g, 1000 + next_random(&seed, 60000));
		cr_assert_eq(gw_vm_state(g->vm), GW_STATE_PAUSED);
		guest_save(g);
		h = guest_restored(g, true);
		cr_assert_eq(gw_vm_state(h->vm), GW_STATE_PAUSED, "it was paused when saved");
		guest_compare(g, h);
		guest_free(h);
		guest_free(g);
	}
}

Test(save, same_answer_over_a_chain_of_saves)
{
	struct guest *g = guest_boot("mixer", 1, 32), *h;
	char expected[64], tail[64] = "";
	struct gw_error err_;
	unsigned seed = 13;

	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	guest_await_end(g);
	strcpy(expected, strchr(guest_output(g), '\n') + 1);
	guest_free(g);

	g = guest_boot("mixer", 1, 32);
	for (int i = 0; i < 8 && gw_vm_state(g->vm) != GW_STATE_SHUTDOWN; i++) {
		guest_run_us(g, 500 + next_random(&seed, 30000));
		if (gw_vm_state(g->vm) == GW_STATE_SHUTDOWN)
			break;
		guest_save(g);
		h = guest_restored(g, true);
		guest_free(g);
		g = h;
	}
	if (gw_vm_state(g->vm) != GW_STATE_SHUTDOWN)
		cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	guest_await_end(g);
	strncat(tail, guest_output(g), sizeof(tail) - 1);
	cr_assert(strstr(tail, expected), "\"%s\" does not end in \"%s\"", tail, expected);
	guest_free(g);
}

Test(save, running_guest_goes_on)
{
	struct guest *g = guest_boot("mixer", 1, 32), *h;
	struct gw_error err_;

	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	guest_await(g, "S\n");
	guest_save(g);
	h = guest_restored(g, true);
	guest_await_end(g);
	guest_await_end(h);
	cr_assert(strstr(guest_output(g), guest_output(h)), "\"%s\" and \"%s\"", guest_output(g),
	          guest_output(h));
	guest_free(g);
	guest_free(h);
}

/* The images travel along: the restored guest boots again without the files it came from. */
Test(save, restored_guest_can_be_reset)
{
	struct guest *g = guest_boot("mixer", 1, 32), *h;
	struct gw_error err_;

	guest_run_us(g, 3000);
	guest_save(g);
	h = guest_restored(g, true);
	guest_free(g);
	cr_assert(gw_vm_reset(h->vm, &err_) == 0, "%s", err_.text);
	cr_assert(gw_vm_cont(h->vm, false, &err_) == 0, "%s", err_.text);
	guest_await(h, "S\n");
	guest_await_end(h);
	guest_free(h);
}

/* Its manifest is that of the other architecture's, in all its parts. */
Test(save, a_snapshot_of_another_architecture_is_refused_by_name)
{
	const uint32_t other = GUEST_MACHINE == EM_X86_64 ? EM_AARCH64 : EM_X86_64;
	struct guest *g = guest_boot("dirtier", 1, 128), *h = guest_new();
	struct snapshot_manifest m;
	char dir[128], want[128];
	struct gw_error err;
	char *config, *text;
	int dir_fd, fd;

	guest_run_us(g, 3000);
	guest_save(g);
	snprintf(dir, sizeof(dir), "%s/snap", g->dir);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(manifest_read(dir_fd, &m, &err), 0, "%s", err.text);
	m.machine = other;
	cr_assert_eq(gw_vm_query_config(g->vm, &config, &err), 0);
	text = manifest_print(&m, config);
	fd = openat(dir_fd, "manifest.json", O_WRONLY | O_TRUNC | O_CLOEXEC);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	close(dir_fd);
	free(text);
	gw_free(config);

	cr_assert_eq(gw_vm_restore(h->vm, dir, NULL, 0, true, &err), -ENOEXEC, "%s", err.text);
	snprintf(want, sizeof(want), "a snapshot of a guest for %s, and this is %s",
	         frame_machine_name(other), frame_machine_name(GUEST_MACHINE));
	cr_assert(strstr(err.text, want), "%s", err.text);
	guest_free(g);
	guest_free(h);
}
