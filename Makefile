# Builds, installs and tests the extension. PostgreSQL 15 to 18, chosen with PG_CONFIG=…
#
#   make                      build
#   make install              install into the PostgreSQL that PG_CONFIG names
#   make help                 all targets and variables

EXTENSION = cache_ext
MODULE_big = cache_ext
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(EXTENSION).control)

all:

# What is built ---------------------------------------------------------------------------------------------

SOURCES := $(sort $(wildcard src/*.cpp src/core/*.cpp src/pg/*.cpp src/api/*.cpp src/redis/*.cpp src/worker/*.cpp))
OBJS := $(SOURCES:.cpp=.o)

# The install script is put together from the topics in sql/src, in the order of their names.
SQL_SOURCES := $(sort $(wildcard sql/src/*.sql))
SQL_SCRIPT := sql/$(EXTENSION)--$(EXTVERSION).sql
DATA = $(wildcard sql/$(EXTENSION)--*--*.sql)
DATA_built = $(SQL_SCRIPT)

EXTRA_CLEAN = .build-flags build sql/$(EXTENSION)--$(EXTVERSION).sql.tmp $(OBJS:.o=.o.dep) $(OBJS:.o=.bc.dep)

# How it is built -------------------------------------------------------------------------------------------

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(wildcard $(PGXS)),)
ifneq ($(MAKECMDGOALS),)
# These make or need nothing of the server's, so they work before it is there.
ifeq ($(filter-out setup help format lint test demo bench model checker,$(MAKECMDGOALS)),)
NO_PGXS_NEEDED = 1
endif
endif
ifndef NO_PGXS_NEEDED
$(error PostgreSQL's server headers are not installed ("$(PG_CONFIG) --pgxs" names no file): run tools/setup)
endif
endif

# WERROR= builds in spite of warnings, for compilers newer than this code.
WERROR ?= -Werror
STANDARD = -std=c++20
# PG_MODULE_MAGIC leaves fields out, and expands in our file.
WARNINGS = -Wall -Wextra -Wshadow -Wno-missing-field-initializers $(WERROR)

# The server's headers are a system directory here: PGXS names it with -I too, which the compiler then ignores, and
# with it the warnings in them.
PG_CPPFLAGS = -Isrc -isystem $(shell $(PG_CONFIG) --includedir-server)
ifdef CACHE_EXT_TESTING
PG_CPPFLAGS += -DCACHE_EXT_TESTING
endif
PG_CXXFLAGS = $(STANDARD) $(WARNINGS) -fvisibility=hidden

# PGXS links with the C compiler.
SHLIB_LINK += -lstdc++

# hiredis is needed; what else the connection to Redis can do depends on what is there. WITH_TLS=no, WITH_REST=no leave it out.
PKG_CONFIG ?= pkg-config
SHLIB_LINK += -lhiredis
WITH_TLS ?= $(shell $(PKG_CONFIG) --exists hiredis_ssl openssl 2>/dev/null && echo yes)
ifeq ($(WITH_TLS),yes)
PG_CPPFLAGS += -DCACHE_EXT_REDIS_TLS
SHLIB_LINK += -lhiredis_ssl -lssl -lcrypto
endif
WITH_REST ?= $(shell $(PKG_CONFIG) --exists libcurl 2>/dev/null && echo yes)
ifeq ($(WITH_REST),yes)
PG_CPPFLAGS += -DCACHE_EXT_REDIS_REST
SHLIB_LINK += -lcurl
endif
ifneq ($(shell grep -rlsF '<lz4.h>' src),)
SHLIB_LINK += -llz4
endif

# Bitcode, which lets the server's JIT inline functions, is made on request only (BITCODE=yes): exceptions do not
# unwind through code compiled by the JIT, and what an entry point calls here is hidden from it.
BITCODE ?= no
PGXS_GLOBAL := $(dir $(PGXS))../Makefile.global
BITCODE_TOOLS := $(shell sed -n 's/^CLANG *= *//p; s,^LLVM_BINPATH *= *\(.*\)$$,\1/llvm-lto,p' '$(PGXS_GLOBAL)' 2>/dev/null)
ifneq ($(BITCODE)/$(words $(wildcard $(BITCODE_TOOLS))),yes/2)
override with_llvm := no
endif

# The tests that "make installcheck" runs against a server that is up: those of the schedule, or all.
SCHEDULE := $(wildcard test/schedule)
REGRESS = $(if $(SCHEDULE),$(shell sed -n 's/^test: *//p' $(SCHEDULE)),$(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql))))
REGRESS_OPTS = --inputdir=test

ifndef NO_PGXS_NEEDED
include $(PGXS)

BITCODE_CXXFLAGS += $(STANDARD) $(WARNINGS)

# Objects are made anew when a header that they include changes, or the flags or the server do.
$(OBJS): %.o: %.cpp .build-flags
	$(COMPILE.cc) -MMD -MP -MF $@.dep -o $@ $<

$(OBJS:.o=.bc): %.bc: %.cpp .build-flags
	$(COMPILE.cxx.bc) -MMD -MP -MF $@.dep -o $@ $<

-include $(OBJS:.o=.o.dep) $(OBJS:.o=.bc.dep)

BUILD_FLAGS = $(VERSION_NUM) $(COMPILE.cc) $(COMPILE.cxx.bc)
ifneq ($(strip $(BUILD_FLAGS)),$(strip $(shell cat .build-flags 2>/dev/null)))
.PHONY: .build-flags
endif
.build-flags:
	@printf '%s\n' '$(strip $(BUILD_FLAGS))' >$@

# The folder is a prerequisite too, so that a topic taken away is noticed.
$(SQL_SCRIPT): $(SQL_SOURCES) $(wildcard sql/src) $(EXTENSION).control Makefile
	@test -n '$(SQL_SOURCES)' || { echo 'sql/src holds no install script source' >&2; exit 1; }
	{ printf '%s\n' '\echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit'; \
	  cat $(SQL_SOURCES); } >$@.tmp
	mv $@.tmp $@
endif

# What else there is ----------------------------------------------------------------------------------------

.PHONY: setup demo test bench model checker format lint help

setup:
	@tools/setup

demo:
	@tools/demo

test:
	@tools/test

bench:
	@bench/run

model:
	@test/model/run $(if $(filter yes,$(FULL)),full)

checker:
	@CHECKER_SECONDS='$(SECONDS)' CHECKER_SESSIONS='$(SESSIONS)' CHECKER_SEED='$(SEED)' tools/checker

format:
	@tools/format

lint:
	@tools/lint

help:
	@sed -n 's/^#: \{0,1\}//p' Makefile

#: make                build the extension
#: make install        install it into the PostgreSQL that PG_CONFIG names (DESTDIR is honoured)
#: make uninstall      remove it from there
#: make setup          install what building and testing need (Debian, Ubuntu)
#: make demo           show it on a throwaway server
#: make test           run every test on throwaway servers; nothing on the machine is touched
#: make installcheck   run the SQL tests on the server that is up, with the extension installed
#: make bench          run the benchmarks on throwaway servers
#: make model          check the models of the protocol exhaustively (a few minutes; needs the package spin; FULL=yes: the full sizes)
#: make checker        hold what the cache answers against the truth under load: SECONDS=60 SESSIONS=12 SEED=number
#: make format         format the C++ code
#: make lint           look for what the compiler does not see
#: make clean          remove what was built
#:
#: PG_CONFIG=path      the PostgreSQL to build for: 15 to 18; the first pg_config in PATH otherwise
#: ONLY=groups         for "make test": unit, fuzz, regress, nopreload, isolation, tap, checks
#: CACHE_EXT_TESTING=1 build with the debug points that the race tests use; never for production
#: BITCODE=yes         make and install bitcode for the server's JIT too, where its compiler is installed
#: WERROR=             do not stop at a warning
#: WITH_TLS=no         leave out rediss://, which needs hiredis_ssl; otherwise it is built in where that is installed
#: WITH_REST=no        leave out Upstash's REST interface, which needs libcurl; likewise
