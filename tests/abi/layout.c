/* SPDX-License-Identifier: Apache-2.0 */
/* Prints size and members of every public struct, and the value of every enumerator. */
#include <godwit.h>
#include <stdio.h>

#define SIZE(s) printf("struct %s: %zu bytes\n", #s, sizeof(struct s))
#define AT(s, m)                                                                                   \
	printf("struct %s: %s at %zu, %zu bytes\n", #s, #m, offsetof(struct s, m),                 \
	       sizeof(((struct s *)0)->m))
#define VALUE(e) printf("%s = %lld\n", #e, (long long)(e))

static void errors_and_events(void)
{
	SIZE(gw_error);
	AT(gw_error, code);
	AT(gw_error, cls);
	AT(gw_error, text);
	SIZE(gw_event);
	AT(gw_event, name);
	AT(gw_event, data);
	AT(gw_event, seconds);
	AT(gw_event, microseconds);
	SIZE(gw_callbacks);
	AT(gw_callbacks, opaque);
	AT(gw_callbacks, event);
	AT(gw_callbacks, log);
}

static void options(void)
{
	SIZE(gw_options);
	AT(gw_options, size);
	AT(gw_options, callbacks);
	AT(gw_options, external_loop);
	SIZE(gw_config);
	AT(gw_config, size);
	AT(gw_config, name);
	AT(gw_config, memory);
	AT(gw_config, cpus);
	AT(gw_config, serial_stdio);
	AT(gw_config, kernel);
	AT(gw_config, initrd);
	AT(gw_config, cmdline);
	AT(gw_config, serial_socket);
	AT(gw_config, serial_log);
	AT(gw_config, devices);
	AT(gw_config, device_count);
	AT(gw_config, more);
	SIZE(gw_map);
	AT(gw_map, path);
	AT(gw_map, value);
	SIZE(gw_migrate_params);
	AT(gw_migrate_params, downtime_limit_ms);
	AT(gw_migrate_params, max_bandwidth);
	AT(gw_migrate_params, switchover_bandwidth);
	AT(gw_migrate_params, switchover_timeout_ms);
	AT(gw_migrate_params, network_timeout_ms);
	AT(gw_migrate_params, unplug_timeout_ms);
	AT(gw_migrate_params, switchover_ack);
	AT(gw_migrate_params, plain_tcp);
	SIZE(gw_save_options);
	AT(gw_save_options, size);
	AT(gw_save_options, unplug_primaries);
	SIZE(gw_control_options);
	AT(gw_control_options, size);
	AT(gw_control_options, path);
	AT(gw_control_options, group);
	AT(gw_control_options, listen_fd);
	AT(gw_control_options, tcp);
	AT(gw_control_options, tls_dir);
	SIZE(gw_device_server_options);
	AT(gw_device_server_options, size);
	AT(gw_device_server_options, path);
	AT(gw_device_server_options, listen_fd);
	AT(gw_device_server_options, migration);
	AT(gw_device_server_options, v1_data);
	AT(gw_device_server_options, external_loop);
	AT(gw_device_server_options, opaque);
	AT(gw_device_server_options, log);
}

static void devices(void)
{
	SIZE(gw_device_bar);
	AT(gw_device_bar, size);
	AT(gw_device_bar, prefetch);
	SIZE(gw_device_type);
	AT(gw_device_type, size);
	AT(gw_device_type, name);
	AT(gw_device_type, state_version);
	AT(gw_device_type, vendor);
	AT(gw_device_type, device);
	AT(gw_device_type, subsystem_vendor);
	AT(gw_device_type, subsystem);
	AT(gw_device_type, class_code);
	AT(gw_device_type, revision);
	AT(gw_device_type, bars);
	AT(gw_device_type, vectors);
	AT(gw_device_type, create);
	AT(gw_device_type, destroy);
	AT(gw_device_type, reset);
	AT(gw_device_type, read);
	AT(gw_device_type, write);
	AT(gw_device_type, run);
	AT(gw_device_type, pause);
	AT(gw_device_type, save);
	AT(gw_device_type, load);
	AT(gw_device_type, command);
	AT(gw_device_type, describe);
	VALUE(GW_DEVICE_BARS);
	VALUE(GW_DEVICE_BAR_MAX);
	VALUE(GW_DEVICE_VECTORS);
	VALUE(GW_DEVICE_STATE_MAX);
}

static void enumerators(void)
{
	VALUE(GW_ERROR_GENERIC);
	VALUE(GW_ERROR_DEVICE_NOT_FOUND);
	VALUE(GW_ERROR_DEVICE_NOT_ACTIVE);
	VALUE(GW_ERROR_KVM_MISSING_CAP);
	VALUE(GW_LOG_ERROR);
	VALUE(GW_LOG_WARN);
	VALUE(GW_LOG_INFO);
	VALUE(GW_LOG_DEBUG);
	VALUE(GW_STATE_EMPTY);
	VALUE(GW_STATE_PRELAUNCH);
	VALUE(GW_STATE_RUNNING);
	VALUE(GW_STATE_PAUSED);
	VALUE(GW_STATE_INMIGRATE);
	VALUE(GW_STATE_FINISH_MIGRATE);
	VALUE(GW_STATE_POSTMIGRATE);
	VALUE(GW_STATE_SAVE_VM);
	VALUE(GW_STATE_SHUTDOWN);
	VALUE(GW_STATE_INTERNAL_ERROR);
}

int main(void)
{
	errors_and_events();
	options();
	devices();
	enumerators();
	return 0;
}
