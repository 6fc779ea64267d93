/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_self_query.c - which hosts are this machine, and which paths may be a
 * plugin's */
#include "plugin/opb_plugin.h"

#include "plugin/self_query.h"

#include "support.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

static void
addresses_of_interfaces_are_this_machine(void **state)
{
    struct ifaddrs *interfaces = NULL;
    char text[INET_ADDRSTRLEN];
    unsigned count = 0;

    (void)state;
    assert_int_equal(getifaddrs(&interfaces), 0);
    for (const struct ifaddrs *each = interfaces; each != NULL; each = each->ifa_next) {
        if (each->ifa_addr != NULL && each->ifa_addr->sa_family == AF_INET) {
            const struct sockaddr_in *own =
                (const struct sockaddr_in *)(const void *)each->ifa_addr;

            assert_non_null(inet_ntop(AF_INET, &own->sin_addr, text, sizeof(text)));
            assert_true(opb_host_is_this_machine(text));
            count++;
        }
    }
    freeifaddrs(interfaces);
    assert_true(count > 0);
}

static void
the_loopback_network_is_this_machine(void **state)
{
    (void)state;
    assert_true(opb_host_is_this_machine("127.0.0.1"));
    assert_true(opb_host_is_this_machine("127.200.3.4"));
    assert_true(opb_host_is_this_machine("0.0.0.0"));
    assert_true(opb_host_is_this_machine("localhost"));
}

static void
other_hosts_are_not_this_machine(void **state)
{
    (void)state;
    assert_false(opb_host_is_this_machine("198.51.100.77")); /* is nobody's: RFC 5737 */
    assert_false(opb_host_is_this_machine("128.0.0.1"));
    assert_false(opb_host_is_this_machine("host.invalid")); /* nor is this: RFC 6761 */
    assert_false(opb_host_is_this_machine(""));
}

static void
only_what_cannot_match_is_told_from_a_pattern(void **state)
{
    static const char path[] = "/modalities/self/query";
    static const char *const may[] = {"/modalities/self/query",
                                      "/modalities/(.*)/query",
                                      "/modalities/.*",
                                      "/.*",
                                      ".*",
                                      "/modalitiesx?/self/query",
                                      "/modalities/selfx*/query",
                                      "/modalities/selfx{0,1}/.*",
                                      "/other|/modalities/self/query",
                                      "^/modalities.*",
                                      "(/modalities/self/query)",
                                      "\\/modalities/self/query",
                                      "/modalities+/self/query"};
    static const char *const cannot[] = {"/modalities/other/query", "/modalities/other/.*",
                                         "/studies/(.*)", "/modalities/selfx+/query",
                                         "/Modalities/.*"};

    (void)state;
    for (size_t i = 0; i < sizeof(may) / sizeof(may[0]); i++) {
        assert_true(opb_pattern_may_match(may[i], path));
    }
    for (size_t i = 0; i < sizeof(cannot) / sizeof(cannot[0]); i++) {
        assert_false(opb_pattern_may_match(cannot[i], path));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(addresses_of_interfaces_are_this_machine),
        OPB_TEST(the_loopback_network_is_this_machine),
        OPB_TEST(other_hosts_are_not_this_machine),
        OPB_TEST(only_what_cannot_match_is_told_from_a_pattern),
    };

    return OPB_RUN(tests);
}
