/* SPDX-License-Identifier: BSD-2-Clause */
/* addresses of programs against endpoints of the stack */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include "../../preload/sock_priv.h"

static struct host fake_host = { .ifindex = 7 };
struct host *host = &fake_host;

static union sockaddr_any in4(const char *text, uint16_t port)
{
	union sockaddr_any a = { .in = { .sin_family = AF_INET, .sin_port = htons(port) } };

	inet_pton(AF_INET, text, &a.in.sin_addr);
	return a;
}

static union sockaddr_any in6(const char *text, uint16_t port)
{
	union sockaddr_any a = { .in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) } };

	inet_pton(AF_INET6, text, &a.in6.sin6_addr);
	return a;
}

Test(addr, both_families_there_and_back)
{
	union sockaddr_any a = in4("10.1.2.3", 80), b;
	struct endpoint ep;

	cr_assert_eq(addr_to_endpoint(4, &a, sizeof(a.in), &ep), 0);
	cr_assert(ipaddr_is_v4(ep.addr) && ep.port == 80);
	cr_assert_eq(addr_from_endpoint(4, &ep, &b), sizeof(b.in));
	cr_assert_eq(memcmp(&a.in, &b.in, sizeof(a.in)), 0);
	cr_assert_eq(addr_from_endpoint(6, &ep, &b), sizeof(b.in6));
	a = in6("::ffff:10.1.2.3", 80);
	cr_assert_eq(memcmp(&a.in6, &b.in6, sizeof(a.in6)), 0, "an IPv4 peer of an IPv6 socket has a mapped address");
	cr_assert_eq(addr_to_endpoint(6, &b, sizeof(b.in6), &ep), 0);
	cr_assert(ipaddr_is_v4(ep.addr));
}

Test(addr, wildcard_of_ipv6_socket_is_shown_as_it_was_given)
{
	struct endpoint mapped = { ipaddr_v4(0), 7 }, any = { .port = 7 };
	union sockaddr_any a, want = in6("::ffff:0.0.0.0", 7), want_any = in6("::", 7);

	addr_from_endpoint(6, &mapped, &a);
	cr_assert_eq(memcmp(&a.in6, &want.in6, sizeof(a.in6)), 0);
	addr_from_endpoint(6, &any, &a);
	cr_assert_eq(memcmp(&a.in6, &want_any.in6, sizeof(a.in6)), 0);
}

Test(addr, lengths_and_families_as_linux)
{
	union sockaddr_any a = in4("10.1.2.3", 80), b = in6("2001:db8::1", 80);
	struct endpoint ep;

	cr_assert_eq(addr_to_endpoint(4, &a, sizeof(a.in) - 1, &ep), -EINVAL);
	cr_assert_eq(addr_to_endpoint(6, &b, 23, &ep), -EINVAL);
	cr_assert_eq(addr_to_endpoint(6, &b, 24, &ep), 0, "RFC 2133's shorter form is taken");
	cr_assert_eq(addr_to_endpoint(4, &b, sizeof(b.in6), &ep), -EAFNOSUPPORT);
	cr_assert_eq(addr_to_endpoint(6, &a, sizeof(b.in6), &ep), -EAFNOSUPPORT);
	cr_assert_eq(addr_from_user(&a, &b.sa, sizeof(a.ss) + 1), -EINVAL);
	cr_assert_eq(addr_from_user(&a, &b.sa, (socklen_t)-1), -EINVAL);
}

Test(addr, output_is_cut_and_its_length_told)
{
	union sockaddr_any a = in4("10.1.2.3", 80);
	uint8_t room[32];
	socklen_t len = 6;

	memset(room, 0xee, sizeof(room));
	cr_assert_eq(addr_to_user(&a, sizeof(a.in), (struct sockaddr *)room, &len), 0);
	cr_assert_eq(len, sizeof(a.in));
	cr_assert(memcmp(room, &a, 6) == 0 && room[6] == 0xee);
	len = (socklen_t)-1;
	cr_assert_eq(addr_to_user(&a, sizeof(a.in), (struct sockaddr *)room, &len), -EINVAL);
}

Test(addr, loopback_is_the_whole_net_of_127)
{
	struct endpoint ep;
	union sockaddr_any a = in4("127.200.0.9", 1), b = in6("::1", 1), c = in6("::2", 1);

	addr_to_endpoint(4, &a, sizeof(a.in), &ep);
	cr_assert(ipaddr_is_loopback(ep.addr));
	addr_to_endpoint(6, &b, sizeof(b.in6), &ep);
	cr_assert(ipaddr_is_loopback(ep.addr));
	addr_to_endpoint(6, &c, sizeof(c.in6), &ep);
	cr_assert_not(ipaddr_is_loopback(ep.addr));
}

Test(addr, link_local_addresses_need_the_scope_of_the_device)
{
	union sockaddr_any a = in6("fe80::1", 80), b;
	struct endpoint ep;

	cr_assert_eq(addr_to_endpoint(6, &a, sizeof(a.in6), &ep), -EINVAL, "as Linux");
	a.in6.sin6_scope_id = 8;
	cr_assert_eq(addr_to_endpoint(6, &a, sizeof(a.in6), &ep), -EINVAL, "another link's");
	a.in6.sin6_scope_id = 7;
	cr_assert_eq(addr_to_endpoint(6, &a, sizeof(a.in6), &ep), 0);
	addr_from_endpoint(6, &ep, &b);
	cr_assert_eq(b.in6.sin6_scope_id, 7u);
	a = in6("2001:db8::1", 80);
	a.in6.sin6_scope_id = 3;
	cr_assert_eq(addr_to_endpoint(6, &a, sizeof(a.in6), &ep), 0, "not looked at");
	addr_from_endpoint(6, &ep, &b);
	cr_assert_eq(b.in6.sin6_scope_id, 0u);
}
