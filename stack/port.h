/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * port.h - who holds which local port, with Linux's rules of conflict (inet_csk_get_port, __inet_hash_connect)
 *
 * A port's holders are kept as classes: all holders that no rule can tell apart (address, SO_REUSEADDR, SO_REUSEPORT
 * and uid, listening, TIME_WAIT) are one row with a count. So a check walks a handful of rows where a server has
 * 100,000 connections on its port. A holder keeps its class in a struct port_hold and its key in its own fields,
 * which is what repair reads.
 */
#ifndef OWNSTACK_STACK_PORT_H
#define OWNSTACK_STACK_PORT_H

#include <stdbool.h>
#include "inet.h"
#include "mem.h"

struct stack;

enum {
	PORT_REUSEADDR = 1,
	PORT_REUSEPORT = 2,
	PORT_V6ONLY = 4,   /* :: does not cover IPv4 */
	PORT_LISTEN = 8,
	PORT_TIMEWAIT = 16,
	PORT_CONNECT = 32, /* chosen by connect(): other connects may share the port, to other destinations */
};

struct port_key {
	struct ipaddr addr; /* local address; ::ffff:0.0.0.0 or :: where not bound to one */
	uint16_t port;	    /* host order */
	uint16_t flags;
	uint32_t uid;	    /* effective uid at socket(), compared for SO_REUSEPORT */
	uint32_t range;	    /* highest << 16 | lowest port to choose from, 0 in either half: the host's own bound */
};
struct port_hold { /* zeroed: holds none */
	uint32_t class; /* slab index */
};

struct port_table {
	struct slab classes;
	uint32_t *head;	   /* [65536] first class of each port; sparse memory */
	uint32_t *perturb; /* [PORT_PERTURB] moving hints of connect() by destination */
};
#define PORT_PERTURB 4096

int port_init(struct stack *st);
/**
 * port_bind() - takes the port @key->port for @h after the check of bind(); port 0: chooses one and stores it in the
 * key
 * Return: 0, -EADDRINUSE, -ENOMEM
 */
int port_bind(struct stack *st, struct port_hold *h, struct port_key *key);
/**
 * port_listen() - @h turns into a listener: checks again, since others may have bound with it under SO_REUSEADDR
 * @key: its key with the options it has now; PORT_LISTEN is added. Return: 0, -EADDRINUSE, -ENOMEM (holds what it held)
 */
int port_listen(struct stack *st, struct port_hold *h, const struct port_key *key);
/** port_join() - without a check: an accepted connection, a TIME_WAIT, a repaired holder. -ENOMEM */
int port_join(struct stack *st, struct port_hold *h, const struct port_key *key);
/**
 * port_relabel() - address, options or state changed: same port, other class. Never fails: out of memory keeps the
 * old class
 */
void port_relabel(struct stack *st, struct port_hold *h, const struct port_key *key);
void port_release(struct stack *st, struct port_hold *h); /* fine if it holds none */
/** port_leave() - for a holder without a struct port_hold: by the key it joined with */
void port_leave(struct stack *st, const struct port_key *key);

/**
 * port_connect() - chooses a local port for a connection to @to and takes it with PORT_CONNECT
 * @key:	source address, options; its port is filled in
 * @usable:	may the 4-tuple with this port be used; it is asked only for ports that others use as well. It may
 * take a
 *		TIME_WAIT out of the way.
 *
 * Ports start at a keyed hash of the destination and a hint that moves with each connect, parity of the lower bound
 * first (bind(0) prefers the other one). Return: 0, -EADDRNOTAVAIL, -ENOMEM
 */
int port_connect(struct stack *st, struct port_hold *h, struct port_key *key, const struct endpoint *to,
		 bool (*usable)(struct stack *st, void *ctx, uint16_t port), void *ctx);
/** port_reset() - all ports free (repair); holders come back through port_join() after zeroing their port_hold */
void port_reset(struct stack *st);

#endif
