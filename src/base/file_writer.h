/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes to a descriptor from a thread of its own, so that nothing else waits for the file: not for
 * a disk that has stalled, not for a pipe that is not read. At most FILE_WRITER_ROOM bytes wait;
 * what finds no room is lost, counted and reported.
 */
#ifndef BASE_FILE_WRITER_H
#define BASE_FILE_WRITER_H

#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct file_writer;

#define FILE_WRITER_ROOM (64u << 10)
/* A write that takes longer has stalled. */
#define FILE_WRITER_STALL_MS 250

/* On the writer's thread, with no lock held; may call file_writer_put(), once, with 256 bytes, for
 * which there is room. `error` negative: a write
 * has failed, and until one succeeds nothing more is said. Otherwise there is room again, after
 * `pieces` calls of file_writer_put() with `bytes` in all were lost. */
typedef void (*file_writer_lost)(void *opaque, int error, uint64_t pieces, uint64_t bytes);

/* Takes over `fd`, in any case. `name` is the thread's, at most 15 bytes. */
int file_writer_create(int fd, const char *name, file_writer_lost lost, void *opaque,
                       struct file_writer **out, struct gw_error *err);
/* Takes all of it, or, where there is no room, nothing: false. Never waits. Any thread. */
bool file_writer_put(struct file_writer *w, const void *buf, size_t len);
/* Waits until all has been written, but not for a write that has stalled. Any thread. */
void file_writer_flush(struct file_writer *w);
/* The same, then ends the thread; one that has stalled ends by itself when its write does, and
 * calls lost() no more. NULL is fine. */
void file_writer_destroy(struct file_writer *w);

#endif
