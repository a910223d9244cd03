/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vfio-user protocol's messages, as client and server share them: a header
 * of 16 bytes in the host's byte order, then the command's own struct, which
 * is the kernel's where there is one. Descriptors travel as SCM_RIGHTS.
 * Source: the vfio-user protocol specification, version 0.9.2;
 * <linux/vfio.h>.
 */
#ifndef VFIO_USER_WIRE_H
#define VFIO_USER_WIRE_H

#include <stdint.h>

enum wire_command {
	WIRE_VERSION = 1,
	WIRE_DMA_MAP = 2,
	WIRE_DMA_UNMAP = 3,
	WIRE_DEVICE_GET_INFO = 4,
	WIRE_DEVICE_GET_REGION_INFO = 5,
	WIRE_DEVICE_GET_REGION_IO_FDS = 6,
	WIRE_DEVICE_GET_IRQ_INFO = 7,
	WIRE_DEVICE_SET_IRQS = 8,
	WIRE_REGION_READ = 9,
	WIRE_REGION_WRITE = 10,
	WIRE_DMA_READ = 11,  /* server to client */
	WIRE_DMA_WRITE = 12, /* server to client */
	WIRE_DEVICE_RESET = 13,
	WIRE_REGION_WRITE_MULTI = 15,
	WIRE_DEVICE_FEATURE = 16,
	WIRE_MIG_DATA_READ = 17,
	WIRE_MIG_DATA_WRITE = 18,
	WIRE_COMMANDS
};

#define WIRE_TYPE_MASK 0xfu /* of flags */
#define WIRE_TYPE_COMMAND 0u
#define WIRE_TYPE_REPLY 1u
#define WIRE_NO_REPLY (1u << 4)
#define WIRE_ERROR (1u << 5)

struct wire_header {
	uint16_t id;
	uint16_t command;
	uint32_t size; /* with this header */
	uint32_t flags;
	uint32_t error; /* errno, with WIRE_ERROR */
};

/* Followed by JSON text with its NUL. */
struct wire_version {
	uint16_t major, minor;
};
#define WIRE_MAJOR 0
#define WIRE_MINOR 1

#define WIRE_DMA_FLAG_READ 1u
#define WIRE_DMA_FLAG_WRITE 2u
struct wire_dma_map {
	uint32_t argsz, flags;
	uint64_t offset, address, size;
};

struct wire_dma_unmap {
	uint32_t argsz, flags;
	uint64_t address, size;
};

/* Read and write; with the data behind it where there are any. */
struct wire_region_access {
	uint64_t offset;
	uint32_t region, count;
};

struct wire_dma_access {
	uint64_t address, count;
};

struct wire_mig_data {
	uint32_t argsz, size;
};

/* What each side takes at least, and most that we ask or allow. */
#define WIRE_MAX_FDS 16
#define WIRE_MAX_DATA (1u << 20)
#define WIRE_MAX_DMA_MAPS 65535u
/* A message: its data, and what surrounds them. */
#define WIRE_MESSAGE_MAX (WIRE_MAX_DATA + 4096u)

#endif
