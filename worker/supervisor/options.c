/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/options.c - see options.h
 *
 * The options that stand for keys come from config.c. The file is read first, wherever it
 * is named, so that the command line wins.
 */
#include "worker/supervisor/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_OPTIONS 32

static const char usage[] =
    "Usage: orthanc-python-worker --config FILE [option]...\n"
    "       orthanc-python-worker --socket PATH [option]...\n"
    "Runs the Python scripts of Orthanc servers in processes of their own.\n"
    "\n"
    "  --config FILE          configuration file (JSON); options win over its keys\n";

static const char usage_end[] =
    "  --check                look at configuration and programs only; exit code 0: fine\n"
    "  --managed-fd N         socket to the Orthanc that started this program: it ends\n"
    "                         with it (used by the plugin)\n"
    "  --without-zygotes      start each host with a Python of its own, without "
    "preloading\n"
    "  --version              show version and protocol version\n"
    "  --help                 show this text\n"
    "\n"
    "SIGHUP: all servers load their scripts again. SIGTERM: end.\n";

enum option_code {
    OPTION_CONFIG = 1,
    OPTION_CHECK,
    OPTION_MANAGED_FD,
    OPTION_HANDSHAKE_TIMEOUT_MS,
    OPTION_WITHOUT_ZYGOTES,
    OPTION_VERSION,
    OPTION_HELP,
    OPTION_FIRST_KEY /* and one for each */
};

static const struct option own_options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"managed-fd", required_argument, NULL, OPTION_MANAGED_FD},
    {"handshake-timeout-ms", required_argument, NULL, OPTION_HANDSHAKE_TIMEOUT_MS},
    {"without-zygotes", no_argument, NULL, OPTION_WITHOUT_ZYGOTES},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP}};
#define OWN_COUNT (sizeof(own_options) / sizeof(own_options[0]))

int
opb_options_complain(const struct opb_pool_options *options, const char *text,
                     const char *detail)
{
    char line[1024];
    int length = snprintf(line, sizeof(line), "ERROR %s%s\n", text, detail);

    if (options->managed_fd >= 0 && length > 0 && (size_t)length < sizeof(line)) {
        (void)!write(options->managed_fd, line, (size_t)length); /* stderr has it as well */
    }
    (void)snprintf(line, sizeof(line), "%s%s", text, detail); /* may be cut */
    opb_say(OPB_LOG_ERROR, "", line);
    return 2;
}

/* False if text is not a number from low to high. */
static bool
parse_number(const char *text, long low, long high, long *out)
{
    char *end = NULL;

    errno = 0;
    *out = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *out >= low && *out <= high;
}

static void
show_help(void)
{
    (void)fputs(usage, stdout);
    opb_pool_config_help(stdout);
    (void)fputs(usage_end, stdout);
}

/* An option that is no key. Returns -1 to go on, else an exit code. */
static int
take_own(struct opb_pool_options *options, int code, const char *text)
{
    long number = 0;

    switch (code) {
    case OPTION_CONFIG:
        return -1; /* has been read */
    case OPTION_CHECK:
        options->is_check = true;
        return -1;
    case OPTION_MANAGED_FD:
        if (!parse_number(text, 3, INT_MAX, &number)) {
            return opb_options_complain(options, "--managed-fd wants a descriptor, not ",
                                        text);
        }
        options->managed_fd = (int)number;
        return -1;
    case OPTION_HANDSHAKE_TIMEOUT_MS: /* for tests, which cannot wait that long */
        if (!parse_number(text, 1, 3600000, &number)) {
            return opb_options_complain(
                options, "--handshake-timeout-ms wants a number, not ", text);
        }
        options->handshake_timeout_ms = (uint32_t)number;
        return -1;
    case OPTION_WITHOUT_ZYGOTES:
        options->without_zygotes = true;
        return -1;
    case OPTION_VERSION:
        (void)printf("orthanc-python-worker %s, protocol version %d\n", OPB_BUILD_VERSION,
                     OPB_PROTOCOL_VERSION);
        return EXIT_SUCCESS;
    case OPTION_HELP:
        show_help();
        return EXIT_SUCCESS;
    default:
        return opb_options_complain(options, "unknown option; see --help", "");
    }
}

static int
read_config(struct opb_pool_options *options, const char *path)
{
    char message[1024];

    if (opb_pool_config_read(&options->config, path, message, sizeof(message)) != OPB_OK) {
        return opb_options_complain(options, message, "");
    }
    return -1;
}

/* One walk over the command line: for the file, or for all the rest. */
static int
walk(int argc, char **argv, const struct option *longs, bool is_for_file,
     struct opb_pool_options *options)
{
    char message[512];
    int result = -1;
    int code;

    optind = 1;
    opterr = is_for_file; /* a complaint comes once */
    while (result < 0 && (code = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (is_for_file) {
            if (code == OPTION_CONFIG) {
                result = read_config(options, optarg);
            }
            else if (code < OPTION_FIRST_KEY && code != OPTION_CHECK) {
                result = take_own(options, code, optarg); /* --help needs no good file */
            }
        }
        else if (code >= OPTION_FIRST_KEY &&
                 (size_t)(code - OPTION_FIRST_KEY) < opb_pool_config_options()) {
            if (opb_pool_config_set(&options->config, (size_t)(code - OPTION_FIRST_KEY),
                                    optarg, message, sizeof(message)) != OPB_OK) {
                result = opb_options_complain(options, message, "");
            }
        }
        else {
            result = take_own(options, code, optarg);
        }
    }
    return result;
}

int
opb_options_parse(int argc, char **argv, struct opb_pool_options *options)
{
    struct option longs[MAX_OPTIONS];
    size_t count = 0;
    int code;

    memset(longs, 0, sizeof(longs));
    for (size_t i = 0; i < OWN_COUNT; i++) {
        longs[count++] = own_options[i];
    }
    for (size_t i = 0; i < opb_pool_config_options() && count + 1 < MAX_OPTIONS; i++) {
        longs[count] = opb_pool_config_option(i, OPTION_FIRST_KEY);
        count += longs[count].name != NULL; /* else it is for the file only */
    }
    code = walk(argc, argv, longs, true, options);
    if (code < 0) {
        code = walk(argc, argv, longs, false, options);
    }
    if (code < 0 && optind != argc) {
        code = opb_options_complain(options, "this is no option: ", argv[optind]);
    }
    return code;
}
