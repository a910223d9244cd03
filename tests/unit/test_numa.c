/* SPDX-License-Identifier: Apache-2.0 */
/* NUMA nodes: what the configuration refuses, how memory is dealt out, the topology that fits. */
#include "config_drivers.h"

#include "base/util.h"
#include "vmm/numa.h"
#include "vmm/topology.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct config config;
static struct numa numa;

#define MACHINE "\"cpus\":4,\"memory\":\"4G\",\"boot\":{\"kernel\":\"/k\"}"

static void refused(const char *more, const char *says)
{
	struct gw_error err = { 0 };
	char json[2048];

	snprintf(json, sizeof(json), "{" MACHINE ",%s}", more);
	cr_assert_eq(config_parse(json, "f", &drivers, &config, &err), -EINVAL, "%s", json);
	cr_assert(strstr(err.text, says), "%s\n%s\nnot: %s", json, err.text, says);
	cr_assert_not(strchr(err.text, ';') && !strchr(says, ';'), "one fault: %s", err.text);
}

static void taken(const char *more)
{
	struct gw_error err = { 0 };
	char json[2048];

	snprintf(json, sizeof(json), "{" MACHINE ",%s}", more);
	cr_assert_eq(config_parse(json, "f", &drivers, &config, &err), 0, "%s: %s", json, err.text);
	numa_make(&config, &numa);
}

/* Two nodes; further keys of each. */
#define TWO(first, second)                                                                         \
	"\"numa\":[{\"cpus\":\"0-1\",\"memory\":\"1G\"" first "},"                                 \
	"{\"cpus\":\"2-3\",\"memory\":\"3G\"" second "}]"

Test(numa, every_cpu_is_in_one_node)
{
	refused("\"numa\":[{\"cpus\":\"0-2\",\"memory\":\"4G\"}]", "f: numa: no node has CPU 3");
	refused("\"numa\":[{\"cpus\":\"0-3\",\"memory\":\"2G\"},{\"cpus\":\"3\",\"memory\":\"2G\"}"
	        "]",
	        "numa[1].cpus: CPU 3 is another node's already");
	refused("\"numa\":[{\"cpus\":\"0-4\",\"memory\":\"4G\"}]",
	        "numa[0].cpus: there is no CPU 4 (cpus is 4)");
	refused("\"numa\":[{\"cpus\":\"x\",\"memory\":\"4G\"}]", "numa[0].cpus: \"x\" is no list");
	taken("\"numa\":[{\"cpus\":\"0-3\",\"memory\":\"2G\"},{\"memory\":\"2G\"}]");
	taken("\"numa\":[{\"cpus\":\"0-3\"},{\"memory\":\"4G\"}]");
	cr_assert_eq(numa.memory[1], 4 * GIB);
}

Test(numa, memory_adds_up)
{
	refused("\"numa\":[{\"cpus\":\"0-3\",\"memory\":\"1G\"}]",
	        "numa: the nodes have 1073741824 bytes of memory, and memory is 4294967296");
	refused("\"numa\":[{\"cpus\":\"0-3\",\"memory\":\"1G\"},{\"memory\":3221225473}]",
	        "numa[1].memory: 3221225473 is not a multiple of 2M; ");
	refused("\"backing\":{\"pages\":\"1G\"},"
	        "\"numa\":[{\"cpus\":\"0-3\",\"memory\":\"1G\"},{\"memory\":\"512M\"},"
	        "{\"memory\":\"2560M\"}]",
	        "numa[1].memory: 536870912 is not a multiple of 1G; ");
	refused("\"numa\":[{\"cpus\":\"0-3\",\"memory\":\"4G\"},{}]",
	        "numa[1]: has neither cpus nor memory");
}

Test(numa, distances_are_a_matrix)
{
	refused(TWO(",\"distances\":[10,20]", ""), "numa[1].distances: 0 numbers for 2 nodes");
	refused(TWO(",\"distances\":[10,20,30]", ",\"distances\":[20,10]"),
	        "numa[0].distances: 3 numbers for 2 nodes");
	refused(TWO(",\"distances\":[11,20]", ",\"distances\":[20,10]"),
	        "numa[0].distances[0]: 11, and to itself it is 10");
	refused(TWO(",\"distances\":[10,10]", ",\"distances\":[10,10]"),
	        "numa[0].distances[1]: 10, which is a node's to itself");
	refused(TWO(",\"distances\":[10,20]", ",\"distances\":[21,10]"),
	        "numa[1].distances[0]: 21, and the other way it is 20");
	refused(TWO(",\"distances\":[10,255]", ",\"distances\":[254,10]"),
	        "numa[0].distances[1]: 255 is not within 10 and 254");
	refused(TWO(",\"distances\":20", ""), "numa[0].distances: must be a list of numbers");
	refused(TWO(",\"distances\":[10,\"a\"]", ""), "numa[0].distances[1]: must be a number");
	refused(TWO(",\"distances\":[10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26]", ""),
	        "numa[0].distances: more than 16");
	taken(TWO(",\"distances\":[10,20]", ",\"distances\":[20,10]"));
	cr_assert(numa.distances);
	cr_assert_eq(numa.distance[1][0], 20);
	taken(TWO("", ""));
	cr_assert(!numa.distances);
}

Test(numa, what_is_no_list_of_nodes)
{
	refused("\"numa\":{}", "numa: must be a list");
	refused("\"numa\":[1]", "numa[0]: must be an object");
	refused("\"numa\":[{\"cpu\":\"0-3\"}]",
	        "numa[0].cpu: no such key; did you mean numa[0].cpus?");
	refused("\"numa\":[],\"numa\":[]", "numa: given twice");
	refused("\"pci\":{\"node\":2}," TWO("", ""), "pci.node: 2, and there are 2 (numa)");
	refused("\"pci\":{\"node\":1}", "pci.node: 1, and there are 0 (numa)");
	taken("\"numa\":[]");
	cr_assert_eq(numa.nodes, 0);
}

Test(numa, printed_and_read_again_it_is_the_same)
{
	struct gw_error err = { 0 };
	struct config *again = calloc(1, sizeof(*again));
	char *text;

	taken("\"pci\":{\"node\":1}," TWO(",\"host-nodes\":\"0\",\"distances\":[10,17]",
	                                  ",\"distances\":[17,10]"));
	text = config_print(&config, &drivers);
	cr_assert(strstr(text, "\"numa\":[{\"cpus\":\"0-1\",\"memory\":1073741824,\"host-nodes\":"
	                       "\"0\",\"distances\":[10,17]},"),
	          "%s", text);
	cr_assert_eq(config_parse(text, "again", &drivers, again, &err), 0, "%s", err.text);
	cr_assert_eq(memcmp(&config, again, sizeof(config)), 0);
	cr_assert_eq(numa.pci, 1);
	free(again);
	free(text);
}

Test(numa, the_hosts_nodes_may_be_mapped)
{
	const struct gw_map good = { "numa.1.host-nodes", "7" };
	const struct gw_map bad[] = { { "numa.1.memory", "1G" },
		                      { "numa.2.host-nodes", "0" },
		                      { "numa.host-nodes", "0" },
		                      { "numa.1", "0" },
		                      { "numa..host-nodes", "0" } };
	struct gw_error err = { 0 };

	taken(TWO("", ""));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		cr_assert_eq(config_apply_map(&config, &drivers, &bad[i], 1, &err), -EINVAL, "%s",
		             bad[i].path);
		cr_assert(strstr(err.text, "no such path; there are ") &&
		                  strstr(err.text, "numa.0.host-nodes, numa.1.host-nodes"),
		          "%s", err.text);
	}
	cr_assert_eq(config_apply_map(&config, &drivers, &good, 1, &err), 0, "%s", err.text);
	cr_assert_str_eq(config.numa[1].host_nodes, "7");
	cr_assert_str_empty(config.numa[0].host_nodes);
	cr_assert_eq(config_check_host(&config, "x", &drivers, true, &err), -ENODEV);
	cr_assert(strstr(err.text, "numa[1].host-nodes: the host has no NUMA node 7"), "%s",
	          err.text);
}

/* ---- memory ---- */

static void expect_part(const struct numa_part *part, uint64_t offset, uint64_t size, unsigned node)
{
	cr_assert_eq(part->offset, offset);
	cr_assert_eq(part->size, size);
	cr_assert_eq(part->node, node);
}

Test(numa, memory_is_cut_where_nodes_and_pieces_end)
{
	struct numa_part parts[CONFIG_NODES_MAX];

	taken("\"numa\":[{\"cpus\":\"0-3\",\"memory\":\"1G\"},{\"memory\":\"2560M\"},"
	      "{\"memory\":\"512M\"}]");
	cr_assert_eq(numa_cut(&numa, 0, 3 * GIB, parts), 2);
	expect_part(&parts[0], 0, GIB, 0);
	expect_part(&parts[1], GIB, 2 * GIB, 1);
	cr_assert_eq(numa_cut(&numa, 3 * GIB, GIB, parts), 2);
	expect_part(&parts[0], 0, 512 * MIB, 1);
	expect_part(&parts[1], 512 * MIB, 512 * MIB, 2);
	/* The first node's end is the piece's. */
	cr_assert_eq(numa_cut(&numa, GIB, GIB, parts), 1);
	expect_part(&parts[0], 0, GIB, 1);
	/* A node without memory has no part. */
	taken("\"numa\":[{\"cpus\":\"0-3\"},{\"memory\":\"4G\"}]");
	cr_assert_eq(numa_cut(&numa, 0, 4 * GIB, parts), 1);
	expect_part(&parts[0], 0, 4 * GIB, 1);
	taken("\"name\":\"none\"");
	cr_assert_eq(numa_cut(&numa, 0, 4 * GIB, parts), 1);
	expect_part(&parts[0], 0, 4 * GIB, 0);
	cr_assert_eq(numa_cut(NULL, 0, 4 * GIB, parts), 1);
}

/* ---- the topology ---- */

static void expect_topology(const char *more, unsigned sockets, unsigned dies, unsigned cores)
{
	struct gw_error err = { 0 };
	struct topology t;

	taken(more);
	cr_assert_eq(topology_make(&config, &t, &err), 0, "%s", err.text);
	cr_assert(t.sockets == sockets && t.dies == dies && t.cores == cores,
	          "%s: %u sockets of %u dies of %u cores", more, t.sockets, t.dies, t.cores);
}

Test(numa, sockets_are_as_many_as_it_takes)
{
	expect_topology("\"name\":\"none\"", 1, 1, 4);
	expect_topology("\"numa\":[{\"cpus\":\"0-3\",\"memory\":\"4G\"}]", 1, 1, 4);
	expect_topology(TWO("", ""), 2, 1, 2);
	expect_topology("\"cpu\":{\"dies\":2}," TWO("", ""), 1, 2, 2);
	expect_topology("\"cpu\":{\"threads\":2}," TWO("", ""), 2, 1, 1);
	expect_topology("\"cpu\":{\"sockets\":4}," TWO("", ""), 4, 1, 1);
	expect_topology("\"cpu\":{\"cores\":2}," TWO("", ""), 2, 1, 2);
	expect_topology("\"numa\":[{\"cpus\":\"0,2\"},{\"cpus\":\"1,3\",\"memory\":\"4G\"}]", 4, 1,
	                1);
	expect_topology("\"numa\":[{\"cpus\":\"0-2\"},{\"cpus\":\"3\",\"memory\":\"4G\"}]", 4, 1,
	                1);
}

Test(numa, no_die_is_in_two_nodes)
{
	refused("\"cpu\":{\"sockets\":1}," TWO("", ""),
	        "numa[1].cpus: CPU 2 is of the same die as CPU 0 of numa[0]; with more");
	refused("\"cpu\":{\"threads\":2},"
	        "\"numa\":[{\"cpus\":\"0,2\"},{\"cpus\":\"1,3\",\"memory\":\"4G\"}]",
	        "numa[1].cpus: CPU 1 is of the same die as CPU 0 of numa[0]; with more");
}
