/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exec.c - another program takes this process over, or a child of it
 *
 * The new image must find us again: LD_PRELOAD and OWNSTACK_* are put into its environment where the caller's lacks them
 * (other preloaded libraries keep their places). The process keeps its slot, marked SLOT_EXEC_PENDING; when the kernel closes
 * the FD_CLOEXEC link to the keeper, the exec is done and the numbers with FD_CLOEXEC are dropped. If others are left open the
 * environment also says OWNSTACK_INHERIT=pid, and the new image joins at load instead of at its first socket. In another network
 * namespace than the host's it would not find it: there the variable says pid@number, the number of our window (host/window.c).
 *
 * A program that cannot have us in it gets ends of socket pairs (export.c), and OWNSTACK_INHERIT=any: whoever of ours comes below
 * it looks for such ends at load. Whether a program can be ours shows in its file, or in that of the interpreter that its first
 * line names: it has the dynamic linker of this C library, and no more rights than we have.
 *
 * A failed exec comes back here and undoes all that. In a vfork child only the environment is ours to change, and it is built
 * on the stack: the memory is the parent's.
 */
#include <alloca.h>
#include <elf.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../host/join.h"
#include "../host/sys.h"
#include "../host/window.h"
#include "own_env.h"
#include "pump_priv.h"
#include "preload_priv.h"

#define PRELOAD_VAR "LD_PRELOAD="

/* ---- the environment ---- */

static size_t env_count(char *const *env)
{
	size_t n = 0;

	while (env && env[n])
		n++;
	return n;
}

/* Do @a and @b set the same variable? */
static bool same_variable(const char *a, const char *b)
{
	size_t n = strcspn(a, "=") + 1;

	return !strncmp(a, b, n);
}

static bool env_has(char *const *env, const char *var)
{
	for (; env && *env; env++)
		if (same_variable(var, *env))
			return true;
	return false;
}

/* Octets that LD_PRELOAD with us in front of @old takes */
static size_t preload_bytes(const char *old)
{
	return sizeof(PRELOAD_VAR) + strlen(own_env.library) + 1 + (old ? strlen(old) : 0);
}

static bool preload_names_us(const char *value)
{
	const char *at = strstr(value, own_env.library);
	size_t n = strlen(own_env.library);

	if (!at)
		return strstr(value, "libownstack.so"); /* by another path, or with $LIB in it */
	return (at == value || strchr(": ", at[-1])) && (!at[n] || strchr(": ", at[n]));
}

/*
 * env_fill() - @env plus what is missing, into @ret (zeroed; room for all of @env, ours, two more and NULL)
 * @preload: room for LD_PRELOAD, preload_bytes() of it
 * @inherit: the OWNSTACK_INHERIT variable, NULL: none
 */
static void env_fill(char *const *env, char **ret, char *preload, char *inherit)
{
	bool preload_done = false;
	size_t n = 0;

	for (; env && *env; env++) {
		if (!strncmp(*env, OWN_ENV_INHERIT, sizeof(OWN_ENV_INHERIT) - 1))
			continue;
		ret[n++] = *env;
		if (preload_done || !same_variable(PRELOAD_VAR, *env))
			continue;
		preload_done = true;
		if (preload_names_us(*env + sizeof(PRELOAD_VAR) - 1))
			continue;
		stpcpy(stpcpy(stpcpy(stpcpy(preload, PRELOAD_VAR), own_env.library), ":"), *env + sizeof(PRELOAD_VAR) - 1);
		ret[n - 1] = preload;
	}
	if (!preload_done) {
		stpcpy(stpcpy(preload, PRELOAD_VAR), own_env.library);
		ret[n++] = preload;
	}
	for (size_t i = 0; i < own_env.n_vars; i++)
		if (!env_has(ret, own_env.vars[i])) /* @ret is zeroed, so it ends with what is there */
			ret[n++] = own_env.vars[i];
	if (inherit)
		ret[n++] = inherit;
	ret[n] = NULL;
}

static const char *env_preload(char *const *env)
{
	for (; env && *env; env++)
		if (same_variable(PRELOAD_VAR, *env))
			return *env + sizeof(PRELOAD_VAR) - 1;
	return NULL;
}

/* The environment for the new image, in the caller's stack frame, which the exec ends or which the failed call leaves. */
#define ENV_OURS(env, inherit)                                                                               \
	({                                                                                                   \
		char *const *env_given = (env);                                                              \
		char *const *env_new = env_given;                                                            \
		if (own_env.vars && own_env.library) {                                                       \
			char **env_room = alloca((env_count(env_given) + own_env.n_vars + 3) * sizeof(char *)); \
			memset(env_room, 0, (env_count(env_given) + own_env.n_vars + 3) * sizeof(char *));     \
			env_fill(env_given, env_room, alloca(preload_bytes(env_preload(env_given))), inherit); \
			env_new = env_room;                                                                  \
		}                                                                                            \
		env_new;                                                                                     \
	})

/* ---- can the program be ours ---- */

enum { SCRIPTS_NESTED_MAX = 5 /* as the kernel's */, HEAD_BYTES = 4096 };

/* More rights than ours: the dynamic linker then ignores LD_PRELOAD. */
static bool raises_rights(int fd)
{
	struct stat st;
	uid_t uid = (uid_t)sys_call(SYS_geteuid, 0, 0, 0, 0, 0, 0);

	if (sys_fstat(fd, &st))
		return false;
	if ((st.st_mode & S_ISUID && st.st_uid != uid) || (st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
		return true;
	return uid && sys_call(SYS_fgetxattr, fd, "security.capability", NULL, 0, 0, 0) > 0;
}

/* @head: first octets of an ELF file, @n of them. Does it ask for our kind of dynamic linker? Unknown is yes. */
static bool elf_is_ours(const uint8_t *head, size_t n)
{
	const Elf64_Ehdr *e = (const void *)head;

	if (n < sizeof(*e) || e->e_phentsize != sizeof(Elf64_Phdr) || e->e_phoff % 8)
		return e->e_ident[EI_CLASS] == ELFCLASS64;
	if (e->e_ident[EI_CLASS] != ELFCLASS64)
		return false;
	for (size_t i = 0, at = e->e_phoff; i < e->e_phnum; i++, at += sizeof(Elf64_Phdr)) {
		const Elf64_Phdr *p = (const void *)(head + at);

		if (at + sizeof(*p) > n)
			return true;
		if (p->p_type == PT_INTERP)
			return p->p_offset + p->p_filesz > n || memmem(head + p->p_offset, p->p_filesz, "ld-linux", 8);
	}
	return false; /* static */
}

/* The interpreter's name in "#! name arg", in place; NULL: not a script */
static char *script_interpreter(char *head, size_t n)
{
	char *name = head + 2;

	if (n < 3 || head[0] != '#' || head[1] != '!')
		return NULL;
	head[n < HEAD_BYTES ? n : HEAD_BYTES - 1] = '\0';
	name += strspn(name, " \t");
	name[strcspn(name, " \t\n")] = '\0';
	return name;
}

/* Takes @fd. Unknown (not readable, not there) is yes: then the exec fails, or the program is of the common kind. */
static bool fd_can_be_ours(int fd)
{
	_Alignas(8) char head[HEAD_BYTES];

	for (int i = 0; i < SCRIPTS_NESTED_MAX && fd >= 0; i++) {
		ssize_t n = sys_call(SYS_pread64, fd, head, sizeof(head), 0, 0, 0);
		bool more_rights = raises_rights(fd);
		char *name;

		sys_close(fd);
		if (n < 4)
			return true;
		if (!memcmp(head, ELFMAG, SELFMAG))
			return !more_rights && elf_is_ours((uint8_t *)head, (size_t)n);
		name = script_interpreter(head, (size_t)n);
		if (!name)
			return true;
		fd = sys_open(name, O_RDONLY | O_CLOEXEC, 0);
	}
	return true;
}

/* Where execvp() would find @file. */
static int open_on_path(const char *file)
{
	const char *path = getenv("PATH");
	size_t len = strlen(file);
	int fd = -1;

	if (strchr(file, '/'))
		return sys_open(file, O_RDONLY | O_CLOEXEC, 0);
	for (path = path ? path : "/bin:/usr/bin"; fd < 0; path++) {
		size_t n = strcspn(path, ":");
		char full[PATH_MAX];

		if (n + len + 2 <= sizeof(full)) {
			memcpy(full, path, n);
			strcpy(stpcpy(full + n, n ? "/" : ""), file);
			if (!sys_call(SYS_faccessat, AT_FDCWD, full, X_OK, 0, 0, 0))
				return sys_open(full, O_RDONLY | O_CLOEXEC, 0);
		}
		path += n;
		if (!*path)
			break;
	}
	return -1;
}

/* ---- the slot ---- */

enum { DECIMAL_BYTES = 12 };

struct exec_try {
	uint32_t slot; /* 0: nothing of ours is at stake */
	char inherit[sizeof(OWN_ENV_INHERIT) + 2 * DECIMAL_BYTES];
	char *ret_inherit; /* NULL: no private number survives */
	struct export_try export;
};

/* Return: end of the number */
static char *put_decimal(char *to, unsigned int n)
{
	char digits[DECIMAL_BYTES], *d = digits + sizeof(digits);

	*--d = '\0';
	do
		*--d = (char)('0' + n % 10);
	while (n /= 10);
	return stpcpy(to, d);
}

static bool any_survives(uint32_t slot)
{
	for (int fd = fdtab_next(slot, 0); fd >= 0; fd = fdtab_next(slot, fd + 1)) {
		const struct fdent *e = fdtab_lookup(fd);

		if (e && !(e->flags & FDENT_CLOEXEC))
			return true;
	}
	return false;
}

/* What the new image must know to have our sockets */
static void inherit_say(struct exec_try *x)
{
	char *end = stpcpy(x->inherit, OWN_ENV_INHERIT);
	int window;

	if (x->export.n)
		end = stpcpy(end, OWN_ENV_ANY);
	else
		end = put_decimal(end, (unsigned int)getpid());
	window = window_pass();
	if (window >= 0) {
		*end++ = OWN_ENV_WINDOW;
		put_decimal(end, (unsigned int)window);
	}
	x->ret_inherit = x->inherit;
}

/* @open_program gives a descriptor of the program, of @dir and @name; it is only asked where sockets survive */
static void exec_begin(struct exec_try *x, int (*open_program)(int dir, const char *name), int dir, const char *name)
{
	*x = (struct exec_try){ 0 };
	if (!host_joined() || !slot_self() || slot_is_vfork_child())
		return;
	x->slot = slot_self();
	if (any_survives(x->slot)) {
		if (!fd_can_be_ours(open_program(dir, name)))
			export_begin(&x->export, false);
		inherit_say(x);
	}
	gate_close();
	host_exec_prepare();
}

static void exec_failed(struct exec_try *x)
{
	if (!x->slot)
		return;
	host_exec_failed();
	export_undo(&x->export);
	window_keep();
	gate_open();
}

/* @call uses `env`; it comes back only if it failed. */
#define EXEC(open_program, dir, name, envp, call)                  \
	do {                                                       \
		int saved;                                         \
		struct exec_try x;                                 \
		char *const *env;                                  \
		exec_begin(&x, open_program, dir, name);           \
		env = ENV_OURS(envp, x.ret_inherit);               \
		call;                                              \
		saved = errno;                                     \
		exec_failed(&x);                                   \
		errno = saved;                                     \
		return -1;                                         \
	} while (0)

static int open_at(int dir, const char *path)
{
	return *path ? (int)sys_call(SYS_openat, dir, path, O_RDONLY | O_CLOEXEC, 0, 0, 0) : sys_fcntl(dir, F_DUPFD_CLOEXEC, 0);
}

static int open_search(int dir, const char *file)
{
	(void)dir;
	return open_on_path(file);
}

static int open_again(int fd, const char *name)
{
	(void)name;
	return sys_fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

EXPORT(int, execve, (const char *path, char *const argv[], char *const envp[]))
{
	EXEC(open_at, AT_FDCWD, path, envp, libc_next.execve(path, argv, env));
}

EXPORT(int, execv, (const char *path, char *const argv[]))
{
	EXEC(open_at, AT_FDCWD, path, environ, libc_next.execve(path, argv, env));
}

EXPORT(int, execvp, (const char *file, char *const argv[]))
{
	EXEC(open_search, AT_FDCWD, file, environ, libc_next.execvpe(file, argv, env));
}

EXPORT(int, execvpe, (const char *file, char *const argv[], char *const envp[]))
{
	EXEC(open_search, AT_FDCWD, file, envp, libc_next.execvpe(file, argv, env));
}

EXPORT(int, fexecve, (int fd, char *const argv[], char *const envp[]))
{
	EXEC(open_again, fd, NULL, envp, libc_next.fexecve(fd, argv, env));
}

EXPORT(int, execveat, (int dir, const char *path, char *const argv[], char *const envp[], int flags))
{
	EXEC(open_at, dir, path, envp, libc_next.execveat(dir, path, argv, env, flags));
}

/* The list of execl() and its kin as an array in the caller's frame; @ap stands behind the last argument afterwards. */
#define ARGS(first, ap)                                                        \
	({                                                                     \
		size_t args_n = 0, args_i = 0;                                 \
		char **args;                                                   \
		va_list args_count;                                            \
		va_copy(args_count, ap);                                       \
		for (const char *a = first; a; a = va_arg(args_count, char *)) \
			args_n++;                                              \
		va_end(args_count);                                            \
		args = alloca((args_n + 1) * sizeof(*args));                   \
		for (const char *a = first; a; a = va_arg(ap, char *))         \
			args[args_i++] = (char *)(uintptr_t)a;                 \
		args[args_i] = NULL;                                           \
		args;                                                          \
	})

EXPORT(int, execl, (const char *path, const char *arg, ...))
{
	char **argv;
	va_list ap;

	va_start(ap, arg);
	argv = ARGS(arg, ap);
	va_end(ap);
	return own_execv(path, argv);
}

EXPORT(int, execlp, (const char *file, const char *arg, ...))
{
	char **argv;
	va_list ap;

	va_start(ap, arg);
	argv = ARGS(arg, ap);
	va_end(ap);
	return own_execvp(file, argv);
}

EXPORT(int, execle, (const char *path, const char *arg, ...))
{
	char **argv, **envp;
	va_list ap;

	va_start(ap, arg);
	argv = ARGS(arg, ap);
	envp = va_arg(ap, char **);
	va_end(ap);
	return own_execve(path, argv, envp);
}

/* ---- children made inside libc: spawn.c where they would have to have private numbers ---- */

EXPORT(int, posix_spawn,
       (pid_t *pid, const char *path, const posix_spawn_file_actions_t *acts, const posix_spawnattr_t *attr,
	char *const argv[], char *const envp[]))
{
	if (vfork_is_fork())
		return spawn_by_fork(pid, &(struct spawn_args){ path, false, acts, attr, argv, envp });
	return libc_next.posix_spawn(pid, path, acts, attr, argv, ENV_OURS(envp, NULL));
}

EXPORT(int, posix_spawnp,
       (pid_t *pid, const char *file, const posix_spawn_file_actions_t *acts, const posix_spawnattr_t *attr,
	char *const argv[], char *const envp[]))
{
	if (vfork_is_fork())
		return spawn_by_fork(pid, &(struct spawn_args){ file, true, acts, attr, argv, envp });
	return libc_next.posix_spawnp(pid, file, acts, attr, argv, ENV_OURS(envp, NULL));
}
