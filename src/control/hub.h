/* SPDX-License-Identifier: Apache-2.0 */
/* What all clients of a server share beside the VM. */
#ifndef CONTROL_HUB_H
#define CONTROL_HUB_H

#include "control/dumper.h"
#include "control/fds.h"

struct hub {
	struct fds fds;
	struct dumper dumper;
};

#endif
