/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An embedder that opens KVM and VFIO itself: takes the device nodes away, so that nobody else
 * can open them, and passes a PCI device through all the same; twice, with the same descriptors.
 *
 * usage: give_vfio ADDRESS GROUP KERNEL
 */
#include <fcntl.h>
#include <godwit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct gw_error error;

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "give_vfio: %s: %s\n", what, error.text);
	exit(1);
}

static int open_and_hide(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 || unlink(path)) {
		perror(path);
		exit(1);
	}
	return fd;
}

static bool has_card(struct gw_vm *vm)
{
	char *json;
	bool has;

	check(!gw_vm_query_devices(vm, &json, &error), "query-devices");
	has = strstr(json, "\"net0\"");
	gw_free(json);
	return has;
}

int main(int argc, char **argv)
{
	char group[32], name[32], json[512], device[128];
	int kvm, container, group_fd;

	if (argc != 4)
		return 2;
	snprintf(group, sizeof(group), "/dev/vfio/%s", argv[2]);
	snprintf(name, sizeof(name), "vfio-group:%s", argv[2]);
	snprintf(device, sizeof(device), "{\"id\":\"net0\",\"type\":\"vfio-pci\",\"host\":\"%s\"}",
	         argv[1]);
	snprintf(json, sizeof(json),
	         "{\"memory\":\"128M\",\"boot\":{\"kernel\":\"%s\"},\"devices\":[%s]}", argv[3],
	         device);
	kvm = open_and_hide("/dev/kvm");
	container = open_and_hide("/dev/vfio/vfio");
	group_fd = open_and_hide(group);

	for (int i = 0; i < 2; i++) {
		struct gw_vm *vm;

		check(!gw_vm_new(NULL, &vm, &error), "new");
		check(gw_vm_configure(vm, json, "a", &error) < 0, "made without a descriptor");
		check(strstr(error.text, "/dev/kvm"), "another reason");
		check(!gw_vm_give_fd(vm, "kvm", kvm, &error), "kvm");
		check(gw_vm_configure(vm, json, "a", &error) < 0, "made without the group");
		check(strstr(error.text, group), "another reason");
		check(!gw_vm_give_fd(vm, name, group_fd, &error), "group");
		check(gw_vm_configure(vm, json, "a", &error) < 0, "made without a container");
		check(strstr(error.text, "/dev/vfio/vfio"), "another reason");
		check(!gw_vm_give_fd(vm, "vfio", container, &error), "vfio");
		check(!gw_vm_configure(vm, json, "a", &error), "configure");
		check(has_card(vm), "no card");
		/* The group is given up and taken again. */
		check(!gw_vm_device_del(vm, "net0", &error), "device_del");
		check(!has_card(vm), "still there");
		check(!gw_vm_device_add(vm, device, &error), "device_add");
		check(has_card(vm), "no card");
		gw_vm_free(vm);
	}
	return 0;
}
