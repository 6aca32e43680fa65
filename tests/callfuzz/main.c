/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * main.c - the conductor: one call at a time, by the thread it is for; what came of it is printed
 *
 *	callfuzz --seed S [--count N] [--drop I,J,... | --keep I,J,...] [--trace] [--storm SECONDS]
 *
 * Exit status: 0; 3 where a call neither came back nor slept (it is named).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "callfuzz.h"

enum { LOG_BYTES = 1 << 20, HANG_MS = 10000, LOST_MS = 3000 };

_Thread_local struct actor *self;
volatile sig_atomic_t sigpipes_seen, signals_seen;
bool trace;
static struct actor actors[N_THREADS_MAX];
static int n_actors; /* of the program under way */
static uint8_t *buffers, *unreadable, *readonly_page;
static struct { size_t n; char text[LOG_BYTES]; } *logged;

/* ---- what is printed ---- */

void say_flush(void)
{
	size_t off = 0;

	while (off < logged->n) {
		ssize_t r = write(1, logged->text + off, logged->n - off);

		if (r <= 0)
			exit(2);
		off += (size_t)r;
	}
	logged->n = 0;
}

void say(const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(logged->text + logged->n, LOG_BYTES - logged->n, fmt, ap);
	va_end(ap);
	logged->n += (size_t)n;
	if (trace || logged->n > LOG_BYTES / 2)
		say_flush();
}

static void append(char *to, size_t room, const char *fmt, va_list ap)
{
	size_t n = strlen(to);

	vsnprintf(to + n, room - n, fmt, ap);
}

void text(struct actor *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	append(a->text, sizeof(a->text), fmt, ap);
	va_end(ap);
}

void result(struct actor *a, const char *fmt, ...)
{
	va_list ap;
	int saved = errno;

	va_start(ap, fmt);
	append(a->result, sizeof(a->result), fmt, ap);
	va_end(ap);
	errno = saved;
}

void gave(struct actor *a, long r)
{
	int saved = errno;

	if (r < 0)
		result(a, " = %ld %s", r, strerrorname_np(saved));
	else
		result(a, " = %ld", r);
	if (sigpipes_seen != a->sigpipes)
		result(a, " and SIGPIPE");
	errno = saved;
}

const char *poll_bits(unsigned v)
{
	static const char *const names[] = { "IN", "PRI", "OUT", "ERR", "HUP", "NVAL", "RDNORM", "RDBAND", "WRNORM", "WRBAND", "MSG", NULL,
					     NULL, "RDHUP" };
	static _Thread_local char buf[8][96];
	static _Thread_local unsigned turn;
	char *to = buf[turn++ % 8];

	*to = 0;
	for (int i = 0; i < 14; i++)
		if (v & 1u << i && names[i]) {
			if (*to)
				strcat(to, "|");
			strcat(to, names[i]);
		}
	return *to ? to : "0";
}

/* ---- arguments ---- */

int arg_fd(const struct call *c, int slot)
{
	switch (c->bad) {
	case BAD_FD_CLOSED:
		return c->x & 1 ? -1 : 300;
	case BAD_FD_FAR:
		return c->x & 1 ? 1 << 20 : -1000;
	case BAD_FD_KIND:
		return 0;
	default:
		return slot_fd(slot);
	}
}

void *arg_ptr(const struct call *c, void *good)
{
	switch (c->bad) {
	case BAD_PTR_NULL:
		return NULL;
	case BAD_PTR_UNREADABLE:
		return unreadable;
	case BAD_PTR_READONLY: /* good enough for what is only read, but it is not the same */
		return c->x & 4 ? unreadable + 4092 : readonly_page;
	default:
		return good;
	}
}

uint8_t *buffer_of(const struct actor *a)
{
	return buffers + (size_t)(a - actors) * BUF_BYTES;
}

void fill(uint8_t *to, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)((seed += 0x9e3779b9u) >> 24);
}

uint32_t digest(const void *from, size_t n)
{
	const uint8_t *p = from;
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 16777619u;
	return h;
}

/* ---- who sleeps, and whether it should ---- */

static bool holds(int slot, short events)
{
	struct pollfd p = { slot_fd(slot), events, 0 };
	int saved = errno, r;

	r = poll(&p, 1, 0);
	errno = saved;
	return r > 0 && p.revents;
}

static bool bytes_wait(const struct actor *a)
{
	int n = 0;

	return ioctl(slot_fd(a->wait_slot), FIONREAD, &n) < 0 || (size_t)n >= a->wait_bytes || holds(a->wait_slot, POLLRDHUP);
}

/* Does what the call of @a waits for hold? */
static bool oracle(const struct actor *a)
{
	if (a->wait_slot >= 0) {
		short events = a->wait_events ? a->wait_events : POLLOUT;
		struct object *o = slot_obj(a->wait_slot);
		int low = 1;
		socklen_t len = sizeof(low);

		if (a->wait_bytes)
			return bytes_wait(a);
		if (o && o->what == W_SOCKET && a->wait_events == POLLIN &&
		    getsockopt(slot_fd(a->wait_slot), SOL_SOCKET, SO_RCVLOWAT, &low, &len) == 0 && low > 1 && !o->backlog)
			return false; /* poll() and recv() differ in what they make of it */
		return holds(a->wait_slot, events);
	}
	for (int i = 0; i < a->n_fds; i++)
		if (holds(a->fds[i].slot, a->fds[i].events))
			return true;
	return false;
}

bool fd_busy(int slot)
{
	struct object *o = slot_obj(slot);

	return o && o->sleepers > 0;
}

bool anyone_sleeps(bool in_epoll)
{
	for (int i = 0; i < N_THREADS_MAX; i++) {
		struct object *o = actors[i].sleeps ? slot_obj(actors[i].wait_slot) : NULL;

		if (actors[i].sleeps && (!in_epoll || (o && o->what == W_EPOLL)))
			return true;
	}
	return false;
}

static bool others_awake(const struct actor *but)
{
	for (int i = 0; i < n_actors; i++)
		if (&actors[i] != but && !actors[i].sleeps)
			return true;
	return false;
}

/*
 * Two who wait for the same would make it a matter of luck who gets it; with epoll what is waited for is not to be seen from
 * here, so that such a thread sleeps alone.
 */
bool may_sleep_on(struct actor *a, int slot, short events)
{
	struct object *o = slot_obj(slot);
	bool ok = true;

	a->wait_slot = slot;
	a->wait_events = events;
	if (slot >= 0)
		a->n_fds = 0;
	if (events && o && o->sleepers)
		ok = false;
	if ((events || slot < 0) && (anyone_sleeps(!(o && o->what == W_EPOLL)) || !others_awake(a)))
		ok = false;
	for (int i = 0; i < a->n_fds; i++)
		if (fd_busy(a->fds[i].slot))
			ok = false;
	if (a->in_child && events && !oracle(a))
		ok = false;
	if (!ok) {
		result(a, " left out: it might sleep");
		a->wait_slot = -1;
		a->n_fds = 0;
		return false;
	}
	a->may_sleep = !(o && o->has_timeo);
	if (o)
		o->sleepers++;
	for (int i = 0; i < a->n_fds; i++)
		if (slot_obj(a->fds[i].slot))
			slot_obj(a->fds[i].slot)->sleepers++;
	a->obj_slept_on = slot >= 0 ? world.slot[slot].obj : -1;
	return true;
}

void sleep_over(struct actor *a)
{
	if (a->obj_slept_on >= 0)
		world.obj[a->obj_slept_on].sleepers--;
	for (int i = 0; i < a->n_fds && a->may_sleep; i++)
		if (slot_obj(a->fds[i].slot))
			slot_obj(a->fds[i].slot)->sleepers--;
	a->obj_slept_on = -1;
	a->n_fds = 0;
}

static bool slot_awaited(int slot)
{
	for (int i = 0; i < n_actors; i++)
		if (actors[i].sleeps && actors[i].call->kind == K_accept && actors[i].call->b == slot)
			return true;
	return false;
}

/* Does the call put something new where a thread sleeps, or will put something? */
static bool new_slot_busy(const struct call *c)
{
	if (slot_awaited(c->a) || slot_awaited(c->b))
		return true;
	switch (c->kind) {
	case K_socket: case K_epoll_create: case K_file:
		return fd_busy(c->a);
	case K_accept: case K_dup: case K_pass:
		return fd_busy(c->b);
	case K_pipe:
		return fd_busy(c->a) || fd_busy(c->b) || c->a == c->b;
	default:
		return false;
	}
}

/* ---- a thread of the program ---- */

void call_run(struct actor *a, const struct call *c, int index)
{
	static run_fn *const run[] = {
#define KIND(name, what) run_##name,
#include "kinds.def"
#undef KIND
	};

	a->call = c;
	a->index = index;
	a->text[0] = a->result[0] = 0;
	a->wait_slot = -1;
	a->wait_bytes = 0;
	a->lost = false;
	a->n_fds = 0;
	a->obj_slept_on = -1;
	a->sigpipes = sigpipes_seen;
	errno = 0;
	if (new_slot_busy(c))
		text(a, "left out: its slot");
	else
		run[c->kind](a, c);
}

static void *actor_main(void *arg)
{
	struct actor *a = arg;
	char path[64];
	int fd, state;

	self = a;
	snprintf(path, sizeof(path), "/proc/self/task/%d/status", gettid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	a->status_fd = fcntl(fd, F_DUPFD_CLOEXEC, OWN_FDS_FROM); /* out of the way of the program's numbers */
	close(fd);
	atomic_store(&a->state, ACTOR_DONE);
	for (;;) {
		while ((state = atomic_load(&a->state)) == ACTOR_DONE)
			syscall(SYS_futex, &a->state, FUTEX_WAIT_PRIVATE, ACTOR_DONE, NULL);
		if (state == ACTOR_QUIT)
			return NULL;
		call_run(a, a->call, a->index);
		atomic_store(&a->state, ACTOR_DONE);
	}
}

static void actor_tell(struct actor *a, int state)
{
	atomic_store(&a->state, state);
	syscall(SYS_futex, &a->state, FUTEX_WAKE_PRIVATE, 1);
}

/* ---- the conductor ---- */

struct glance { char state; long switches; };

static struct glance glance(const struct actor *a)
{
	char buf[4096];
	ssize_t n = pread(a->status_fd, buf, sizeof(buf) - 1, 0);
	struct glance g = { '?', -1 };
	const char *at;

	if (n <= 0)
		return g;
	buf[n] = 0;
	at = strstr(buf, "State:\t");
	if (at)
		g.state = at[7];
	at = strstr(buf, "\nvoluntary_ctxt_switches:\t");
	if (at)
		g.switches = atol(at + 26);
	return g;
}

static void pause_us(long us)
{
	struct timespec t = { 0, us * 1000 };

	nanosleep(&t, NULL);
}

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void hang(const struct actor *a)
{
	say("%3d T%d %s HANGS\n", a->index, (int)(a - actors), a->text);
	say_flush();
	_exit(3);
}

/* Until the call of @a is over (true), or sleeps and is right to do so. */
static bool follow(struct actor *a)
{
	struct glance was = { 0 }, is;
	long begun = now_ms(), ready_since = 0;
	int same = 0;

	for (int i = 0; i < 30; i++) {
		if (atomic_load(&a->state) == ACTOR_DONE)
			return true;
		sched_yield();
	}
	for (;;) {
		if (atomic_load(&a->state) == ACTOR_DONE)
			return true;
		is = glance(a);
		same = is.state == 'S' && is.switches == was.switches ? same + 1 : 0;
		was = is;
		if (now_ms() - begun > HANG_MS)
			hang(a);
		if (same >= 3 && a->may_sleep) {
			if (!oracle(a)) {
				if (glance(a).switches == was.switches && atomic_load(&a->state) != ACTOR_DONE)
					return false;
				same = 0;
			} else if (!ready_since) {
				ready_since = now_ms();
			} else if (a->lost || now_ms() - ready_since > LOST_MS) {
				if (a->lost)
					return false;
				a->lost = true;
				say("    LOST WAKE-UP: T%d sleeps on in %s\n", (int)(a - actors), a->text);
				return false;
			}
		}
		pause_us(same ? 60 : 30);
	}
}

static void follow_sleepers(const struct actor *but)
{
	for (int i = 0; i < N_THREADS_MAX; i++) {
		struct actor *a = &actors[i];

		if (a == but || !a->sleeps || !follow(a))
			continue;
		a->sleeps = false;
		say("    T%d awake from %s%s\n", i, a->text, a->result);
	}
}

/* Handlers ran? SIGUSR1 ends every call, SIGUSR2 only those that signal(7) lets it end. */
static void run_kill_here(const struct call *c)
{
	struct actor *a = &actors[c->a];
	sig_atomic_t seen = signals_seen;
	bool restart = c->x & 1;

	if (!a->sleeps) {
		say(" left out: it is awake\n");
		return;
	}
	pthread_kill(a->thread, restart ? SIGUSR2 : SIGUSR1);
	for (long begun = now_ms(); signals_seen == seen; pause_us(50))
		if (now_ms() - begun > LOST_MS) {
			say(" NO HANDLER RAN");
			break;
		}
	say("\n");
}

void run_kill(struct actor *a, const struct call *c)
{
	(void)c;
	result(a, "left out"); /* in a child; the conductor does it else */
}

static void conduct(const struct program *p, const bool *dropped, int *at)
{
	static struct call child[N_CALLS_MAX + 1];
	const struct call *c = &p->call[*at];
	struct actor *a = &actors[c->thread];
	int first = *at, n = 0;

	if (c->kind == K_fork) {
		for (int i = 1; i <= c->a && first + i < p->n_calls; i++, ++*at)
			if (!dropped[first + i])
				child[n++] = p->call[first + i];
		child[n].kind = K_N;
	}
	if (dropped[first])
		return;
	if (c->kind == K_kill) {
		say("%3d    signal %s to T%d", first, c->x & 1 ? "SIGUSR2" : "SIGUSR1", c->a);
		run_kill_here(c);
		follow_sleepers(NULL);
		return;
	}
	while (a->sleeps) /* another does it; one is always awake */
		a = &actors[(a - actors + 1) % n_actors];
	a->call = c;
	a->index = first;
	a->child_first = child;
	a->may_sleep = false;
	actor_tell(a, ACTOR_GO);
	a->sleeps = !follow(a);
	if (a->sleeps)
		say("%3d T%d %s sleeps\n", first, (int)(a - actors), a->text);
	else
		say("%3d T%d %s%s\n", first, (int)(a - actors), a->text, a->result);
	follow_sleepers(a->sleeps ? a : NULL);
}

/* Whoever still sleeps is woken by a signal, so that the next program begins with all threads. */
static void wake_all(void)
{
	for (int i = 0; i < N_THREADS_MAX; i++) {
		struct actor *a = &actors[i];
		long begun = now_ms();

		if (!a->sleeps)
			continue;
		while (atomic_load(&a->state) != ACTOR_DONE) {
			pthread_kill(a->thread, SIGUSR1);
			pause_us(500);
			if (now_ms() - begun > LOST_MS)
				hang(a);
		}
		a->sleeps = false;
		say("    T%d ended by signals: %s%s\n", i, a->text, a->result);
	}
}

static void program_run(const struct program *p, const bool *dropped)
{
	int left;

	n_actors = p->n_threads;
	world_begin();
	for (int i = 0; i < p->n_calls; i++)
		conduct(p, dropped, &i);
	wake_all();
	left = world_end();
	if (left)
		say("    LEFT OPEN: %d\n", left);
	say("end %llu\n", (unsigned long long)p->seed);
	say_flush();
}

/* ---- start ---- */

static void on_pipe(int sig) { (void)sig; sigpipes_seen++; }
static void on_signal(int sig) { (void)sig; signals_seen++; }

static void *pages(size_t n, int prot)
{
	void *p = mmap(NULL, n, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("callfuzz: mmap");
		exit(2);
	}
	return p;
}

static void set_up(void)
{
	struct sigaction sa = { .sa_handler = on_pipe };
	struct rlimit lim = { 2048, 2048 };

	sigaction(SIGPIPE, &sa, NULL);
	sa.sa_handler = on_signal;
	sigaction(SIGUSR1, &sa, NULL);
	sa.sa_flags = SA_RESTART;
	sigaction(SIGUSR2, &sa, NULL);
	setrlimit(RLIMIT_NOFILE, &lim);
	close(0);
	if (open("/dev/null", O_RDWR) != 0)
		exit(2);
	for (int fd = 3; fd < 64; fd++)
		close(fd);
	buffers = pages((size_t)N_THREADS_MAX * BUF_BYTES, PROT_READ | PROT_WRITE);
	unreadable = pages(8192, PROT_NONE);
	readonly_page = pages(4096, PROT_READ);
	logged = mmap(NULL, sizeof(*logged), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (logged == MAP_FAILED)
		exit(2);
	world_init();
}

static void start_threads(void)
{
	for (int i = 0; i < N_THREADS_MAX; i++) {
		if (pthread_create(&actors[i].thread, NULL, actor_main, &actors[i]))
			exit(2);
		while (atomic_load(&actors[i].state) != ACTOR_DONE)
			sched_yield();
	}
}

static void stop_threads(void)
{
	for (int i = 0; i < N_THREADS_MAX; i++) {
		actor_tell(&actors[i], ACTOR_QUIT);
		pthread_join(actors[i].thread, NULL);
	}
}

/* Calls named in @list are left out, or (@keep) all others. */
static void parse_calls(char *list, bool *dropped, bool keep)
{
	for (int i = 0; i < N_CALLS_MAX; i++)
		dropped[i] = keep;
	for (char *p = strtok(list, ","); p; p = strtok(NULL, ","))
		if (atoi(p) >= 0 && atoi(p) < N_CALLS_MAX)
			dropped[atoi(p)] = !keep;
}

int main(int argc, char **argv)
{
	static bool dropped[N_CALLS_MAX];
	static struct program p;
	unsigned long long seed = 1, count = 1;
	int storm_seconds = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--count") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--drop") && i + 1 < argc)
			parse_calls(argv[++i], dropped, false);
		else if (!strcmp(argv[i], "--keep") && i + 1 < argc)
			parse_calls(argv[++i], dropped, true);
		else if (!strcmp(argv[i], "--trace"))
			trace = true;
		else if (!strcmp(argv[i], "--storm") && i + 1 < argc)
			storm_seconds = atoi(argv[++i]);
		else
			return fprintf(stderr, "usage: callfuzz --seed S [--count N] [--drop I,... | --keep I,...] [--trace] [--storm SECONDS]\n"), 2;
	}
	set_up();
	if (storm_seconds)
		return storm(seed, storm_seconds);
	start_threads();
	for (unsigned long long i = 0; i < count; i++) {
		program_generate(&p, seed + i);
		say("seed %llu: %d threads, %d calls\n", (unsigned long long)p.seed, p.n_threads, p.n_calls);
		program_run(&p, dropped);
	}
	stop_threads();
	if (settle_missed)
		fprintf(stderr, "settle: %ld waits in vain\n", settle_missed);
	return 0;
}
