/* SPDX-License-Identifier: Apache-2.0 */
/* Where the lines of earlier prompts are kept. */
#ifndef CLI_HISTORY_H
#define CLI_HISTORY_H

/* godwit/ctl_history below $XDG_STATE_HOME, or ~/.local/state (XDG Base Directory Specification);
 * the file is there afterwards, for its owner alone. Released with free(). NULL: it cannot be
 * had. */
char *history_path(void);

#endif
