/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * entry.c - from the libc symbol to the socket operation
 *
 * Theory of operation
 *
 * Each row of calls.def that is routed by number or type becomes an exported function here: one look into the descriptor
 * table of this process (two loads, nothing at all while no host is joined), then either sk_NAME() or the next definition of
 * the symbol, with arguments and errno untouched. Rows BY_HAND are written out in the file of their subject.
 *
 * Which close() do our own objects call? host/, io/ and liburing are linked into the same shared object and use libc's
 * names; the dynamic linker would bind those to the first definition in its search order, which is the exported one here: at
 * best a detour, for fork, exec and sigaction an endless one. So the link is made with --wrap=NAME for every row: an
 * undefined reference to NAME inside the library becomes __wrap_NAME, which is libc_next.NAME; definitions and exports are
 * not affected. It needs no discipline in the other folders, costs one indirect jump, and holds for liburing.a too. A file
 * that *defines* NAME must not call it by that name; it uses libc_next like all of preload/.
 */
#include "preload_priv.h"

/* A hook that has nothing to do saves no register: all else is in a function of its own. */
#define CALL_BY_FD(result, name, params, args)                        \
	static SLOW result ours_##name params                         \
	{                                                             \
		int saved = errno;                                    \
		if (!fdtab_lookup(fd))                                \
			return libc_next.name args;                   \
		return (result)errno_result(sk_##name args, saved);   \
	}                                                             \
	EXPORT(result, name, params)                                  \
	{                                                             \
		return likely(!fdmap_has(fd)) ? libc_next.name args : ours_##name args; \
	}
#define CALL_BY_TYPE(result, name, params, args)                      \
	EXPORT(result, name, params)                                  \
	{                                                             \
		int saved = errno;                                    \
		if (!own_socket_wanted(domain, type, protocol) || !own_join()) \
			return fd_forget(libc_next.name args);        \
		return (result)errno_result(sk_##name args, saved);   \
	}
#define CALL(route, result, name, params, args)	 CALL_##route(result, name, params, args)
#define CALL_BY_HAND(result, name, params, args)
#define ALIAS(alias, name)
#include "calls.def"
#undef CALL
#undef ALIAS

/* A second name may belong to a function of any file of this folder: a jump reaches all of them. */
#define CALL(route, result, name, params, args)
#define ALIAS(alias, name)                                                                           \
	__asm__(".pushsection .text\n\t.globl " #alias "\n\t.type " #alias ", @function\n" #alias ":\n\t" \
		"jmp own_" #name "\n\t.popsection\n");
#include "calls.def"
