/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * next.h - the definitions that come after ours
 *
 * libc_next.close is what the program would have called without us: libc's, or that of another preloaded library. Every
 * member may be called at any time, also before our constructor ran: until then it holds a function that resolves all of
 * them first. Our own code calls replaced symbols only through it.
 */
#ifndef OWNSTACK_PRELOAD_NEXT_H
#define OWNSTACK_PRELOAD_NEXT_H

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct sockaddr_in;
struct stat;
struct statx;
struct termios;
struct winsize;

struct libc_next {
#define CALL(route, result, name, params, args) result(*name) params;
#define ALIAS(alias, name)
#include "calls.def"
#undef CALL
#undef ALIAS
};
extern struct libc_next libc_next __attribute__((visibility("hidden")));

/* Our own definitions, by the names C knows them under */
#define CALL(route, result, name, params, args) result own_##name params;
#define ALIAS(alias, name)
#include "calls.def"
#undef CALL
#undef ALIAS

/**
 * BEFORE_SHADOW - a function that a sanitizer's own start calls, before the shadow of memory that checks would look at exists
 *
 * libasan asks for limits and sets them first of all. Only what that way touches: all else stays checked.
 */
#define BEFORE_SHADOW __attribute__((no_sanitize("address", "undefined")))

/** next_resolve() - look all of them up; once, idempotent, any thread */
void next_resolve(void);

/**
 * EXPORT() - head of a function that the program calls in place of libc's
 *
 * In C it is own_NAME, so that no header's prototype (transparent unions, nothrow, fortified inlines) is contradicted; the
 * linker sees NAME as a second name of it.
 */
#define EXPORT(result, name, params)                                                                  \
	__asm__(".globl " #name "\n\t.type " #name ", @function\n\t.set " #name ", own_" #name "\n"); \
	result own_##name params

/** EXPORT_THREE() - same, for a variadic function of three arguments that does not look which type the third has */
#define EXPORT_THREE(result, name, params)                                                           \
	__asm__(".globl " #name "\n\t.type " #name ", @function\n\t.set " #name ", own3_" #name "\n\t"   \
		".globl own_" #name "\n\t.hidden own_" #name "\n\t.set own_" #name ", own3_" #name "\n"); \
	__attribute__((used)) result own3_##name params;                                             \
	__attribute__((used)) result own3_##name params

#endif
