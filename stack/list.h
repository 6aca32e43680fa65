/* SPDX-License-Identifier: BSD-2-Clause */
/* list.h - ring of nodes with a head; a node that is in no list points to nothing (zeroed memory is "in no list") */
#ifndef OWNSTACK_STACK_LIST_H
#define OWNSTACK_STACK_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct dnode {
	struct dnode *next, *prev;
};

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

static inline void dlist_init(struct dnode *head)
{
	head->next = head->prev = head;
}
static inline bool dlist_empty(const struct dnode *head)
{
	return head->next == head;
}
static inline bool dnode_linked(const struct dnode *n)
{
	return n->next != NULL;
}
static inline void dlist_append(struct dnode *head, struct dnode *n)
{
	n->next = head;
	n->prev = head->prev;
	head->prev->next = n;
	head->prev = n;
}
static inline void dlist_prepend(struct dnode *head, struct dnode *n)
{
	dlist_append(head->next, n);
}
/** dlist_remove() - harmless for a node in no list */
static inline void dlist_remove(struct dnode *n)
{
	if (!n->next)
		return;
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->next = n->prev = NULL;
}
static inline struct dnode *dlist_first(const struct dnode *head)
{
	return head->next == head ? NULL : head->next;
}
static inline struct dnode *dlist_pop(struct dnode *head)
{
	struct dnode *n = dlist_first(head);

	if (n)
		dlist_remove(n);
	return n;
}

#endif
