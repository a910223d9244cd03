// SPDX-License-Identifier: Apache-2.0

// Drives go-qemu's QMP client, whose types are made from QEMU's own schema: drive_goqemu SOCKET. Says
// "ok NAME" for each thing that went well.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"
)

func say(name string, good bool, err error) {
	if good && err == nil {
		fmt.Println("ok", name)
	} else {
		fmt.Println("bad", name, err)
	}
}

func main() {
	mon, err := qmp.NewSocketMonitor("unix", os.Args[1], 5*time.Second)
	if err != nil {
		say("dial", false, err)
		os.Exit(1)
	}
	say("connect", true, mon.Connect())
	stream, err := mon.Events(nil)
	say("events", true, err)
	events := make(chan qmp.Event, 100)
	go func() { // the client passes on nothing else before an event has been taken
		for event := range stream {
			events <- event
		}
	}()
	typed := raw.NewMonitor(mon)

	version, err := typed.QueryVersion()
	say("query-version", version.Qemu.Major > 0, err)
	status, err := typed.QueryStatus()
	say("query-status", !status.Running && status.Status == raw.RunStateInmigrate, err)
	commands, err := typed.QueryCommands()
	say("query-commands", len(commands) > 40, err)
	list, err := typed.QueryEvents()
	say("query-events", len(list) > 10, err)
	kvm, err := typed.QueryKVM()
	say("query-kvm", kvm.Enabled && kvm.Present, err)
	target, err := typed.QueryTarget()
	say("query-target", target.Arch == "x86_64", err)
	machines, err := typed.QueryMachines()
	say("query-machines", len(machines) == 1, err)
	uuid, err := typed.QueryUUID()
	say("query-uuid", len(uuid.UUID) == 36, err)
	blocks, err := typed.QueryBlock()
	say("query-block", len(blocks) == 0, err)
	_, err = typed.QueryNamedBlockNodes()
	say("query-named-block-nodes", true, err)
	_, err = typed.QueryChardev()
	say("query-chardev", true, err)
	_, err = typed.QueryFdsets()
	say("query-fdsets", true, err)
	schema, err := mon.Run([]byte(`{"execute":"query-qmp-schema"}`))
	say("query-qmp-schema", len(schema) > 1000, err)

	_, err = mon.Run([]byte(`{"execute":"no-such"}`))
	say("errors", err != nil, nil)
	_, err = mon.Run([]byte(fmt.Sprintf(
		`{"execute":"migrate-incoming","arguments":{"uri":"unix:%s.in"}}`, os.Args[1])))
	say("migrate-incoming", true, err)
	select {
	case event := <-events:
		say("event "+event.Event, event.Event == "MIGRATION" &&
			event.Data["status"] == "setup" && event.Timestamp.Seconds > 0, nil)
	case <-time.After(10 * time.Second):
		say("event", false, nil)
	}
	say("quit", true, typed.Quit())
	mon.Disconnect()
}
