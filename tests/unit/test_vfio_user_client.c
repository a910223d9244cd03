/* SPDX-License-Identifier: Apache-2.0 */
/* vfio-user: a device of another process, and what becomes of it when that process lies, stops or
 * comes back. */
#include "vfu_world.h"

/* ---- a server that keeps to the rules -------------------------------------------------------- */

Test(vfio_user, registers_and_memory)
{
	struct world w;

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert_eq(pci_get(w.pci->function.config, 0, 4), 0x56781234);
	cr_assert_eq(w.pci->msix_layout.vectors, 4);
	cr_assert_eq(w.s.seen[WIRE_DEVICE_RESET], 1, "it begins as after a reset");
	for (unsigned size = 1; size <= 8; size *= 2) {
		bar_write(&w, 0x100, size, 0x1122334455667788 + size);
		cr_assert_eq(bar_read(&w, 0x100, size),
		             (0x1122334455667788 + size) &
		                     (size == 8 ? UINT64_MAX : (1ull << size * 8) - 1));
	}
	cr_assert_eq(w.s.map_count, 1);
	cr_assert_eq(w.s.maps[0].address, 0);
	cr_assert_eq(w.s.maps[0].size, RAM);
	cr_assert(w.s.maps[0].by_fd);
	cr_assert_eq(w.pci->window_count, 2, "two pages of BAR 2");
	*(uint32_t *)w.pci->windows[1].hva = 77;
	cr_assert_eq(pread(w.s.bar2_fd, &(uint32_t){ 0 }, 4, 0x9000), 4);
	cr_assert(memory_can_discard(w.vm->m->memory), "the server sees what is given back");
	end(&w);
}

/* No other device gets hold of memory that a new server may put something else in place of. */
Test(vfio_user, its_memory_is_not_shown_to_other_devices)
{
	struct gw_error err;
	struct world w;

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert_eq(
	        vfio_space_map_device(w.pci->space, 0xc0000000, 4096, w.pci->windows[0].hva, &err),
	        -EOPNOTSUPP);
	cr_assert_null(w.pci->space->windows);
	end(&w);
}

Test(vfio_user, what_is_not_sealed_is_trapped)
{
	struct world w;

	begin(&w);
	w.s.plain_file = true;
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert_eq(w.pci->window_count, 0);
	end(&w);
}

Test(vfio_user, a_server_without_twin_socket_descriptors_or_words)
{
	static const char *const caps[] = { "{}", "{\"capabilities\":{\"max_msg_fds\":0}}" };

	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++) {
		struct world w;

		begin(&w);
		w.s.caps = caps[i];
		w.s.minor = 0;
		cr_assert(add(&w), "%s", w.vm->error);
		bar_write(&w, 8, 4, 5);
		cr_assert_eq(bar_read(&w, 8, 4), 5);
		cr_assert_eq(w.s.maps[0].by_fd, i == 0);
		end(&w);
	}
}

/* The kernel's way: -1 is none. */
Test(vfio_user, interrupts_in_runs)
{
	struct world w;
	struct gw_error err = { 0 };
	int fds[4], all;

	begin(&w);
	w.s.caps = "{\"capabilities\":{\"max_msg_fds\":2}}";
	cr_assert(add(&w), "%s", w.vm->error);
	for (unsigned i = 0; i < 4; i++)
		fds[i] = io_eventfd();
	all = fds[1];
	fds[1] = -1;
	cr_assert_eq(vfio_irq_set(&w.pci->dev, VFIO_PCI_MSIX_IRQ_INDEX, 0, fds, 4, &err), 0, "%s",
	             err.text);
	cr_assert_eq(w.s.seen[WIRE_DEVICE_SET_IRQS], 3);
	cr_assert_eq(w.s.vectors[1], -1);
	io_eventfd_signal(w.s.vectors[3]);
	cr_assert_eq(read(fds[3], &(uint64_t){ 0 }, 8), 8);
	cr_assert_eq(read(fds[0], &(uint64_t){ 0 }, 8), -1);
	fds[1] = all;
	cr_assert_eq(vfio_irq_set(&w.pci->dev, VFIO_PCI_MSIX_IRQ_INDEX, 0, fds, 4, &err), 0);
	cr_assert_eq(w.s.seen[WIRE_DEVICE_SET_IRQS], 5, "four vectors, two at a time");
	cr_assert_geq(w.s.vectors[1], 0);
	vfio_irq_disable(&w.pci->dev, VFIO_PCI_MSIX_IRQ_INDEX);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(w.s.vectors[i], -1);
	for (unsigned i = 0; i < 4; i++)
		close(fds[i]);
	end(&w);
}

static void *read_once(void *opaque)
{
	uint32_t value;

	vfio_region_read(&((struct world *)opaque)->pci->dev, 0, 0, &value, 4);
	return NULL;
}

/* While the server is busy with something else, writes go out of the vCPU's way, and arrive. */
Test(vfio_user, writes_are_put_together_for_a_slow_server)
{
	struct world w;
	pthread_t thread;

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	w.s.on = WIRE_REGION_READ;
	w.s.lie = LIE_LATE;
	cr_assert_eq(pthread_create(&thread, NULL, read_once, &w), 0);
	wait_until(__atomic_load_n(&w.s.lie, __ATOMIC_ACQUIRE) == LIE_NONE);
	for (uint32_t i = 0; i < 3000; i++)
		cr_assert_eq(vfio_region_write(&w.pci->dev, 0, i % 1024 * 4, &i, 4), 0);
	pthread_join(thread, NULL);
	for (uint32_t i = 3000 - 1024; i < 3000; i++)
		cr_assert_eq(bar_read(&w, i % 1024 * 4, 4), i, "%u", i);
	cr_assert_gt(w.s.seen[WIRE_REGION_WRITE_MULTI], 0);
	cr_assert_gt(w.s.seen[WIRE_REGION_WRITE], 0);
	end(&w);
}

static void *read_often(void *opaque)
{
	struct world *w = opaque;

	for (uint32_t i = 0; i < 500; i++) {
		uint64_t value = 0;
		const uint64_t offset = (uintptr_t)pthread_self() / 4096 % 512 * 8;

		cr_assert_eq(vfio_region_read(&w->pci->dev, 0, offset, &value, 8), 0);
		cr_assert_eq(value, offset + 1);
	}
	return NULL;
}

Test(vfio_user, several_threads_at_once)
{
	struct world w;
	pthread_t threads[4];

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	for (uint64_t i = 0; i < 512; i++)
		memcpy(w.s.bar0 + i * 8, &(uint64_t){ i * 8 + 1 }, 8);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, read_often, &w), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	cr_assert_geq(w.s.seen[WIRE_REGION_READ], 2000);
	end(&w);
}

/* ---- memory by message ------------------------------------------------------------------------
 */

Test(vfio_user, dma_by_message_goes_where_memory_is)
{
	struct world w;
	uint8_t buf[8192], back[8192];

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	vmachine_track(w.vm);
	memset(buf, 0xa5, sizeof(buf));
	cr_assert_eq(vfu_server_dma(&w.s, true, 0x10800, buf, sizeof(buf)), 0);
	see_memory(&w);
	cr_assert_eq(memcmp(vmachine_at(w.vm, 0x10800), buf, sizeof(buf)), 0);
	for (uint64_t page = 0x10; page <= 0x12; page++)
		cr_assert(vmachine_dirty(w.vm, page * PAGE_SIZE), "what it wrote is dirty");
	cr_assert_not(vmachine_dirty(w.vm, 0x13 * PAGE_SIZE));
	cr_assert_eq(vfu_server_dma(&w.s, false, 0x10800, back, sizeof(back)), 0);
	cr_assert_eq(memcmp(back, buf, sizeof(buf)), 0);
	cr_assert_eq(vfu_server_dma(&w.s, true, RAM - 4096, buf, 4096), 0);
	cr_assert_eq(vfu_server_dma(&w.s, true, RAM - 4095, buf, 4096), EFAULT);
	cr_assert_eq(vfu_server_dma(&w.s, false, RAM, back, 1), EFAULT);
	cr_assert_eq(vfu_server_dma(&w.s, true, UINT64_MAX - 100, buf, 4096), EFAULT);
	cr_assert_eq(vfu_server_dma(&w.s, false, UINT64_MAX, back, 2), EFAULT);
	cr_assert_not(vmachine_event(w.vm, "DEVICE_BROKEN"), "a fault of its DMA breaks nothing");
	end(&w);
}

Test(vfio_user, malformed_dma_breaks_the_device)
{
	static const struct {
		uint16_t command;
		uint64_t count;
		uint32_t data;
		bool header_only;
		const char *why;
	} bad[] = {
		{ WIRE_DMA_WRITE, 100, 50, false, "whose sizes differ" },
		{ WIRE_DMA_WRITE, UINT64_MAX, 8, false, "whose sizes differ" },
		{ WIRE_DMA_READ, 4, 4, false, "whose sizes differ" },
		{ WIRE_DMA_READ, 4, 0, true, "malformed request" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct world w;
		const struct wire_header h = { .id = 1, .command = bad[i].command };
		const struct wire_dma_access a = { 0, bad[i].count };
		uint8_t data[64] = { 0 };
		const struct iovec parts[] = { { (void *)(uintptr_t)&a, sizeof(a) },
			                       { data, bad[i].data } };

		begin(&w);
		cr_assert(add(&w), "%s", w.vm->error);
		cr_assert_eq(wire_send(w.s.twin, &h, parts, bad[i].header_only ? 0 : 2, NULL, 0,
		                       patience_ms()),
		             0);
		cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()), "%zu", i);
		cr_assert(strstr(vmachine_event(w.vm, "DEVICE_BROKEN"), bad[i].why), "%zu: %s", i,
		          vmachine_event(w.vm, "DEVICE_BROKEN"));
		end(&w);
	}
}

/* A command on the other socket, and with a descriptor: it is carried out. */
Test(vfio_user, dma_on_the_socket_that_is_for_replies)
{
	const struct wire_header h = { .command = WIRE_DMA_WRITE, .flags = WIRE_NO_REPLY };
	const struct wire_dma_access a = { 0x3000, 4 };
	const struct iovec parts[] = { { (void *)(uintptr_t)&a, sizeof(a) }, { "abcd", 4 } };
	struct world w;

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(wire_send(w.s.socket, &h, parts, 2, &w.s.bar2_fd, 1, patience_ms()),
		             0);
	/* What is read comes behind it. */
	cr_assert_eq(bar_read(&w, 0, 4), 0);
	see_memory(&w);
	cr_assert_eq(memcmp(vmachine_at(w.vm, 0x3000), "abcd", 4), 0);
	cr_assert_eq(logged(&w, "a command beside the twin socket"), 1, "%s", w.log);
	cr_assert_eq(logged(&w, "a request for guest memory with 1 descriptors"), 1, "%s", w.log);
	cr_assert_not(vmachine_event(w.vm, "DEVICE_BROKEN"));
	end(&w);
}

/* More than one message takes is an error of that request alone. */
Test(vfio_user, dma_of_any_size_that_is_asked_for)
{
	struct world w;
	const struct wire_header h = { .id = 9, .command = WIRE_DMA_READ };
	struct wire_dma_access a = { 0, UINT64_MAX };
	const struct iovec part = { &a, sizeof(a) };
	struct wire_message m = { .payload = malloc(WIRE_MESSAGE_MAX) };

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	cr_assert_eq(wire_send(w.s.twin, &h, &part, 1, NULL, 0, patience_ms()), 0);
	cr_assert_eq(wire_receive(w.s.twin, &m, patience_ms()), 0);
	cr_assert_eq(m.header.error, EINVAL);
	a.count = WIRE_MAX_DATA;
	cr_assert_eq(wire_send(w.s.twin, &h, &part, 1, NULL, 0, patience_ms()), 0);
	cr_assert_eq(wire_receive(w.s.twin, &m, patience_ms()), 0);
	cr_assert_eq(m.len, sizeof(a) + WIRE_MAX_DATA);
	cr_assert_not(vmachine_event(w.vm, "DEVICE_BROKEN"));
	free(m.payload);
	end(&w);
}

/* ---- RAM that cannot be given away -------------------------------------------------------------
 */

Test(vfio_user, ram_that_a_file_stands_in_for)
{
	struct world w;
	struct gw_error err = { 0 };
	int fd = memfd_create("snapshot", 0);

	begin(&w);
	cr_assert_eq(ftruncate(fd, MIB), 0);
	cr_assert_eq(memory_map_file(w.vm->m->memory, MIB, MIB, fd, 0, &err), 0);
	cr_assert_null(add(&w));
	cr_assert(strstr(w.vm->error, "backing.shared"), "%s", w.vm->error);
	close(fd);
	end(&w);
}

/* ---- migration
 * ------------------------------------------------------------------------------------ */

Test(vfio_user, states_and_their_data)
{
	struct world w;
	struct vfio_state *m;
	struct vfio_state_pending pending;
	struct gw_error err = { 0 };
	char buf[64];

	begin(&w);
	memcpy(w.s.data, "the state of the device", 23);
	w.s.data_len = 23;
	cr_assert(add(&w), "%s", w.vm->error);
	m = w.pci->state;
	cr_assert_eq(m->features, VFIO_STATE_PRE_COPY);
	cr_assert_eq(vfio_state_step(m, VFIO_BEGIN_PRE_COPY, &err), 0, "%s", err.text);
	cr_assert_eq(vfio_state_pending(m, &pending, &err), 0, "%s", err.text);
	cr_assert(pending.unknown, "the protocol has no way to ask");
	cr_assert_eq(vfio_state_step(m, VFIO_STOP, &err), 0, "%s", err.text);
	cr_assert_eq(vfio_state_read(m, buf, 10, &err), 10);
	cr_assert_eq(vfio_state_read(m, buf + 10, sizeof(buf) - 10, &err), 13);
	cr_assert_eq(memcmp(buf, "the state of the device", 23), 0);
	cr_assert_eq(vfio_state_read(m, buf, sizeof(buf), &err), 0);
	cr_assert_eq(vfio_state_step(m, VFIO_END_SAVE, &err), 0);
	cr_assert_eq(vfio_state_step(m, VFIO_BEGIN_LOAD, &err), 0);
	w.s.data_len = 0;
	cr_assert_eq(vfio_state_write(m, "another state", 13, &err), 0, "%s", err.text);
	cr_assert_eq(vfio_state_step(m, VFIO_RUN, &err), 0);
	cr_assert_eq(w.s.data_len, 13);
	cr_assert_eq(memcmp(w.s.data, "another state", 13), 0);
	cr_assert_eq(w.s.state, VFIO_DEVICE_STATE_RUNNING);
	end(&w);
}

/* A server that tells of whole mappings only still answers for a part of one, and what it told of
 * the rest is not lost. */
Test(vfio_user, the_log_of_a_part_of_a_mapping)
{
	struct world w;
	uint64_t bits[32] = { 0 };

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	w.s.dirty = 0x500000;
	cr_assert_eq(vfu_space_report(w.pci->backend ? ((struct vfu_device *)w.pci->backend)->space
	                                             : NULL,
	                              0, 4 * MIB, PAGE_SIZE, bits),
	             0);
	for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
		cr_assert_eq(bits[i], 0);
	cr_assert_eq(vfu_space_report(((struct vfu_device *)w.pci->backend)->space, 4 * MIB,
	                              4 * MIB, PAGE_SIZE, bits),
	             0);
	cr_assert_eq(bits[0x100 / 64], 1);
	bits[0x100 / 64] = 0;
	cr_assert_eq(vfu_space_report(((struct vfu_device *)w.pci->backend)->space, 0, RAM,
	                              PAGE_SIZE, bits),
	             0);
	for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
		cr_assert_eq(bits[i], 0, "told once");
	w.s.dirty = 0x7ff000;
	cr_assert_eq(vfu_space_report(((struct vfu_device *)w.pci->backend)->space, 0, RAM, 2 * MIB,
	                              bits),
	             0);
	cr_assert_eq(bits[0], 8, "in larger pages");
	end(&w);
}

/* ---- gone, and back -----------------------------------------------------------------------------
 */

Test(vfio_user, a_server_that_comes_back)
{
	struct world w;
	uint32_t value = 0;

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	memset(w.s.seen, 0, sizeof(w.s.seen));
	stop(&w);
	cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
	cr_assert(strstr(vmachine_event(w.vm, "DEVICE_BROKEN"), "\"device\":\"vfio-user-pci0\""));
	cr_assert_eq(bar_read(&w, 0x10, 4), 0xffffffff);
	bar_write(&w, 0x10, 4, 1);
	cr_assert(strstr(w.pci->participant.ops->blocker(&w.pci->participant), "server is gone"));
	restart(&w);
	cr_assert(vmachine_wait(w.vm, is_repaired, &w, patience_ms()));
	cr_assert_not(w.pci->concealed);
	cr_assert_eq(w.s.seen[WIRE_DEVICE_RESET], 1);
	cr_assert_eq(w.s.map_count, 1);
	bar_write(&w, 0x10, 4, 0x55);
	cr_assert_eq(bar_read(&w, 0x10, 4), 0x55);
	cr_assert_eq(pwrite(w.s.bar2_fd, "new!", 4, 0x3000), 4);
	memcpy(&value, w.pci->windows[0].hva, 4);
	cr_assert_eq(memcmp(&value, "new!", 4), 0,
	             "the new server's memory is where the old's was");
	end(&w);
}

Test(vfio_user, another_device_is_not_taken_for_the_one_that_was)
{
	struct world w;

	for (unsigned i = 0; i < 2; i++) {
		begin(&w);
		cr_assert(add(&w), "%s", w.vm->error);
		stop(&w);
		cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
		if (i)
			w.s.bar0_size = 8192;
		else
			w.s.config[2] ^= 1;
		w.before = w.s.seen[WIRE_VERSION];
		restart(&w);
		cr_assert(vmachine_wait(w.vm, was_tried, &w, patience_ms()));
		cr_assert_not(vmachine_wait(w.vm, is_repaired, &w, 200));
		cr_assert_eq(bar_read(&w, 0, 4), 0xffffffff);
		stop(&w);
		w.s.bar0_size = 0;
		w.s.config[2] = 0x78;
		restart(&w);
		cr_assert(vmachine_wait(w.vm, is_repaired, &w, patience_ms()));
		cr_assert_eq(bar_read(&w, 0, 4), 0);
		end(&w);
	}
}

/* Taken away while its server is gone, and while somebody waits for a reply. */
Test(vfio_user, unplugged_while_nobody_answers)
{
	struct world w;
	pthread_t thread;

	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	stop(&w);
	cr_assert(vmachine_wait(w.vm, is_broken, &w, patience_ms()));
	end(&w);
	begin(&w);
	cr_assert(add(&w), "%s", w.vm->error);
	hurry(&w);
	w.s.on = WIRE_REGION_READ;
	w.s.lie = LIE_SILENCE;
	cr_assert_eq(pthread_create(&thread, NULL, read_once, &w), 0);
	pthread_join(thread, NULL);
	end(&w);
}

/* ---- the configuration
 * ------------------------------------------------------------------------------ */

Test(vfio_user, memory_is_shared_where_a_device_needs_it)
{
	static const struct device_driver *const list[] = { &vfio_user_pci_driver };
	const struct device_drivers drivers = { list, 1 };
	struct config *config = malloc(sizeof(*config));
	struct gw_error err = { 0 };

	cr_assert_eq(config_parse("{\"memory\":\"64M\",\"boot\":{\"kernel\":\"k\"},\"devices\":["
	                          "{\"id\":\"a\",\"type\":\"vfio-user-pci\",\"socket\":\"s\"}]}",
	                          "test", &drivers, config, &err),
	             0, "%s", err.text);
	cr_assert(config->backing.shared);
	cr_assert_eq(config_parse("{\"memory\":\"64M\",\"boot\":{\"kernel\":\"k\"}}", "test",
	                          &drivers, config, &err),
	             0, "%s", err.text);
	cr_assert_not(config->backing.shared);
	free(config);
}

Test(vfio_user, a_socket_or_a_descriptor)
{
	struct vfio_user_options o = { 0 };
	struct gw_error err = { 0 };

	cr_assert_eq(vfio_user_pci_driver.check_host(&o, &err), -EINVAL);
	strcpy(o.socket, "/nonexistent");
	cr_assert_eq(vfio_user_pci_driver.check_host(&o, &err), -ENOENT);
	cr_assert(strstr(err.text, "socket: /nonexistent"), "%s", err.text);
	strcpy(o.socket, "/dev/null");
	cr_assert_eq(vfio_user_pci_driver.check_host(&o, &err), -ENOTSOCK);
	strcpy(o.fd, "x");
	cr_assert_eq(vfio_user_pci_driver.check_host(&o, &err), -EINVAL);
	o.socket[0] = 0;
	cr_assert_eq(vfio_user_pci_driver.check_host(&o, &err), 0);
}
