/* SPDX-License-Identifier: Apache-2.0 */
/* C++ reads the header, links the library, and gets errors as values. */
#include <godwit.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace
{

unsigned events;

void on_event(void *opaque, const gw_event *event)
{
	if (opaque && event->name[0])
		++*static_cast<unsigned *>(opaque);
}

} // namespace

int main()
{
	gw_callbacks callbacks = {};
	gw_options options = {};
	gw_device_type type = {};
	gw_error err;
	gw_vm *vm = nullptr;

	callbacks.opaque = &events;
	callbacks.event = on_event;
	options.size = sizeof(options);
	options.callbacks = &callbacks;
	options.external_loop = true;
	if (std::strlen(gw_version()) < 5 || gw_vm_new_with(&options, &vm, &err))
		return 1;
	type.size = sizeof(type);
	type.name = "Not a good name";
	if (gw_vm_register_device_type(vm, &type, nullptr, &err) != -EINVAL ||
	    !std::strstr(err.text, "name"))
		return 2;
	if (gw_vm_configure(vm, "{}", "cxx", &err) != -EINVAL || !err.text[0])
		return 3;
	if (gw_vm_state(vm) != GW_STATE_EMPTY || gw_vm_dispatch(vm, 0, nullptr))
		return 4;
	gw_vm_free(vm);
	std::printf("%s\n", err.text);
	return 0;
}
