/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ctl_line.h"

#include "base/error.h"
#include "base/util.h"
#include "cli/history.h"

#include <dlfcn.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

#define LIBRARY "libedit.so.2"
#define HISTORY_LINES 1000
#define WIDTH 80

#define FUNCTIONS(X)                                                                               \
	X(el_end)                                                                                  \
	X(el_gets)                                                                                 \
	X(el_init)                                                                                 \
	X(el_insertstr)                                                                            \
	X(el_line)                                                                                 \
	X(el_set)                                                                                  \
	X(history)                                                                                 \
	X(history_end)                                                                             \
	X(history_init)

struct ctl_line {
	struct ctl_line_calls calls;
	void *handle; /* NULL: plain lines */
/* A member's name cannot be in parentheses. NOLINTNEXTLINE(bugprone-macro-parentheses) */
#define MEMBER(name) __typeof__(&(name)) name;
	FUNCTIONS(MEMBER)
#undef MEMBER
	EditLine *el;
	History *history_list;
	char *history_path; /* NULL: none is kept */
	char *plain;
	size_t plain_room;
	bool ended;
};

/* ---- the terminal ------------------------------------------------------------------------------
 */

/* There is one terminal, so one line at a time: libedit's handlers find it here. */
static struct ctl_line *current;

static char *prompt(EditLine *el)
{
	(void)el;
	return (char *)(uintptr_t)current->calls.prompt;
}

static void show_news(struct ctl_line *line)
{
	fputs("\r\033[K", stdout);
	if (line->calls.news(line->calls.opaque) < 0)
		line->ended = true;
	fflush(stdout);
	line->el_set(line->el, EL_REFRESH);
}

/* The bytes of one character. 1, or 0 at the end. */
static int read_character(wchar_t *out)
{
	mbstate_t state = { 0 };
	char byte;

	for (;;) {
		if (read(STDIN_FILENO, &byte, 1) != 1)
			return 0;
		switch (mbrtowc(out, &byte, 1, &state)) {
		case (size_t)-2: /* more follow */
			continue;
		case (size_t)-1:
			*out = L'?';
			return 1;
		default:
			return 1;
		}
	}
}

static int get_character(EditLine *el, wchar_t *out)
{
	struct ctl_line *line = current;
	struct pollfd fds[] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = line->calls.news_fd, .events = POLLIN },
	};

	(void)el;
	while (!line->ended) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		if (fds[1].revents)
			show_news(line);
		else if (fds[0].revents)
			return read_character(out);
	}
	return 0;
}

/* ---- completion
 * ---------------------------------------------------------------------------------- */

static void list(const struct completions *found)
{
	int width = 0, column = 0;

	for (unsigned i = 0; i < found->count; i++)
		width = MAX(width, (int)strlen(found->word[i]) + 2);
	putchar('\n');
	for (unsigned i = 0; i < found->count; i++) {
		if (column && column + width > WIDTH) {
			putchar('\n');
			column = 0;
		}
		printf("%-*s", width, found->word[i]);
		column += width;
	}
	putchar('\n');
	fflush(stdout);
}

static unsigned char on_tab(EditLine *el, int key)
{
	struct ctl_line *line = current;
	const LineInfo *info = line->el_line(el);
	const size_t cursor = (size_t)(info->cursor - info->buffer);
	autofree char *text = strndup(info->buffer, cursor);
	autofree char *more = NULL;
	struct completions found;

	(void)key;
	if (!text)
		return CC_ERROR;
	line->calls.complete(line->calls.opaque, text, cursor, &found);
	if (!found.count)
		return CC_ERROR;
	if (found.count > 1 && found.common == found.typed) {
		list(&found);
		return CC_REDISPLAY;
	}
	if (asprintf(&more, "%.*s%s", (int)(found.common - found.typed),
	             found.word[0] + found.typed, found.count == 1 ? found.end : "") < 0) {
		more = NULL;
		return CC_ERROR;
	}
	line->el_insertstr(el, more);
	return CC_REFRESH;
}

/* ---- life
 * ------------------------------------------------------------------------------------------ */

/* False: there is no libedit, or not the one of the header. */
static bool load_library(struct ctl_line *line)
{
	line->handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!line->handle)
		return false;
#define LOAD(name)                                                                                 \
	line->name = (__typeof__(line->name))dlsym(line->handle, #name);                           \
	if (!line->name)                                                                           \
		return false;
	FUNCTIONS(LOAD)
#undef LOAD
	return true;
}

static void start_history(struct ctl_line *line)
{
	HistEvent event;

	line->history_list = line->history_init();
	if (!line->history_list)
		return;
	line->history(line->history_list, &event, H_SETSIZE, HISTORY_LINES);
	line->history(line->history_list, &event, H_SETUNIQUE, 1);
	line->history_path = history_path();
	if (line->history_path)
		line->history(line->history_list, &event, H_LOAD, line->history_path);
	line->el_set(line->el, EL_HIST, line->history, line->history_list);
}

static bool start_editor(struct ctl_line *line)
{
	setlocale(LC_CTYPE, "");
	line->el = line->el_init("godwit", stdin, stdout, stderr);
	if (!line->el)
		return false;
	current = line;
	line->el_set(line->el, EL_PROMPT, prompt);
	line->el_set(line->el, EL_SIGNAL, 1);
	line->el_set(line->el, EL_EDITOR, "emacs");
	line->el_set(line->el, EL_ADDFN, "godwit-complete", "what may follow", on_tab);
	line->el_set(line->el, EL_BIND, "^I", "godwit-complete", NULL);
	line->el_set(line->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
	line->el_set(line->el, EL_GETCFN, get_character);
	start_history(line);
	return true;
}

int ctl_line_create(const struct ctl_line_calls *calls, struct ctl_line **out, struct gw_error *err)
{
	struct ctl_line *line = calloc(1, sizeof(*line));

	if (!line)
		return error_set(err, -ENOMEM, "out of memory");
	line->calls = *calls;
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && load_library(line))
		start_editor(line);
	*out = line;
	return 0;
}

void ctl_line_destroy(struct ctl_line *line)
{
	HistEvent event;

	if (!line)
		return;
	if (line->history_list && line->history_path)
		line->history(line->history_list, &event, H_SAVE, line->history_path);
	if (line->history_list)
		line->history_end(line->history_list);
	if (line->el)
		line->el_end(line->el);
	if (line->handle)
		dlclose(line->handle);
	current = NULL;
	free(line->history_path);
	free(line->plain);
	free(line);
}

/* ---- lines
 * ------------------------------------------------------------------------------------------- */

static const char *get_edited(struct ctl_line *line)
{
	HistEvent event;
	int count = 0;
	const char *text = line->el_gets(line->el, &count);

	if (!text || count <= 0)
		return NULL;
	if (line->history_list && text[strspn(text, " \t\r\n")])
		line->history(line->history_list, &event, H_ENTER, text);
	return text;
}

const char *ctl_line_get(struct ctl_line *line)
{
	if (line->ended)
		return NULL;
	if (line->el)
		return get_edited(line);
	if (isatty(STDIN_FILENO)) {
		fputs(line->calls.prompt, stdout);
		fflush(stdout);
	}
	return getline(&line->plain, &line->plain_room, stdin) < 0 ? NULL : line->plain;
}
