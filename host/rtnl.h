/* SPDX-License-Identifier: BSD-2-Clause */
/* rtnl.h - the kernel's side of the device: up, address, a free network. Raw ioctl and netlink: a process per step costs 1 ms. */
#ifndef OWNSTACK_HOST_RTNL_H
#define OWNSTACK_HOST_RTNL_H

#include "config.h"

/** rtnl_link_up() - set IFF_UP. Return: 0, negative errno */
int rtnl_link_up(const char *ifname);
/** rtnl_addr_add() - give @ifname the address; one that is there already is fine */
int rtnl_addr_add(const char *ifname, const struct config_cidr *addr);
uint32_t rtnl_ifindex(const char *ifname); /* 0: there is none */
/** rtnl_free_net() - a /30 that no route of the kernel covers: *@ret_kernel and *@ret_ours are its two hosts. @seed: where to begin. -ENOSPC */
int rtnl_free_net(const char *seed, struct config_cidr *ret_kernel, struct config_cidr *ret_ours);

#endif
