# Shared by the scripts in this folder: finding the PostgreSQL to use, building the extension beside the developer's
# own build, and throwaway servers. To be sourced. Everything made here lives in one scratch folder, which an exit
# removes, servers first; nothing outside it and build/ is written, and no other server is touched.

set -euo pipefail
umask 022
unset CDPATH MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES DESTDIR

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

note() {
    printf '%s\n' "$*" >&2
}

# Finding PostgreSQL ----------------------------------------------------------------------------------------

# pg_config_fit FILE: whether this PostgreSQL is 15 or newer, with the server and what extensions are built with.
pg_config_fit() {
    local version
    [[ -x $1 ]] || return 1
    version=$("$1" --version 2>/dev/null) || return 1
    version=${version#PostgreSQL }
    ((${version%%[!0-9]*} >= 15)) && [[ -f $("$1" --pgxs) && -x $("$1" --bindir)/postgres ]]
}

# Prints the pg_config to use: PG_CONFIG if that is set, otherwise the newest that fits.
find_pg_config() {
    local found
    if [[ -n ${PG_CONFIG:-} ]]; then
        found=$(command -v "$PG_CONFIG") || die "PG_CONFIG names no program: $PG_CONFIG"
        pg_config_fit "$found" || die "$found: not PostgreSQL 15 or newer with server and header files"
        printf '%s\n' "$found"
        return
    fi
    while IFS= read -r found; do
        if pg_config_fit "$found"; then
            printf '%s\n' "$found"
            return
        fi
    done < <({
        printf '%s\n' /usr/lib/postgresql/*/bin/pg_config /usr/pgsql-*/bin/pg_config | sort -Vr
        type -ap pg_config
        printf '%s\n' /usr/local/pgsql/bin/pg_config
    })
    return 1
}

# The major version of the PostgreSQL whose pg_config is given.
pg_major() {
    local version
    version=$("$1" --version)
    version=${version#PostgreSQL }
    printf '%s\n' "${version%%[!0-9]*}"
}

# The pg_regress that came with the PostgreSQL whose pg_config is given. pg_isolation_regress and the Perl modules lie
# beside it.
pg_regress_of() {
    printf '%s/test/regress/pg_regress\n' "$(dirname "$(dirname "$("$1" --pgxs)")")"
}

# The scratch folder and its user -----------------------------------------------------------------------------

SCRATCH=
CLUSTERS=()

# PostgreSQL refuses to run as root; then its own user runs it, or nobody.
server_user() {
    local user
    if ((EUID != 0)); then
        id -un
        return
    fi
    for user in postgres nobody; do
        if id -u "$user" >/dev/null 2>&1; then
            printf '%s\n' "$user"
            return
        fi
    done
    die 'running as root, and there is neither a user postgres nor nobody to run a server as'
}

# as_server_user COMMAND…: runs it as the user who runs the servers.
as_server_user() {
    if ((EUID != 0)); then
        "$@"
    else
        setpriv --reuid "$(id -u "$SERVER_USER")" --regid "$(id -g "$SERVER_USER")" --init-groups "$@"
    fi
}

# as_server COMMAND…: the same, in the scratch folder and with a home there.
as_server() {
    (cd "$SCRATCH" && HOME=$SCRATCH/home TMPDIR=$SCRATCH/tmp as_server_user "$@")
}

# Makes the scratch folder. Its path is kept short: a socket's path may have 107 bytes.
scratch_make() {
    local base
    [[ -z $SCRATCH ]] || return 0
    SERVER_USER=$(server_user)
    for base in "${TMPDIR:-/tmp}" /tmp /var/tmp; do
        [[ -d $base && -w $base && ${#base} -le 50 && $base != *[[:space:]]* ]] || continue
        SCRATCH=$(cd "$base" && as_server_user test -x . && mktemp -d "$PWD/cache_ext.XXXXXX") && break
    done
    [[ -n $SCRATCH ]] || die 'found no folder for temporary files (TMPDIR, /tmp, /var/tmp)'
    mkdir "$SCRATCH/home" "$SCRATCH/tmp"
    chmod 0711 "$SCRATCH"
    ((EUID != 0)) || chown -R "$SERVER_USER": "$SCRATCH"
    trap scratch_clean EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# stop_left_behind DIR: stops the servers below that folder of the scratch folder that a test made and did not stop.
stop_left_behind() {
    local file
    [[ -n ${BINDIR:-} ]] || return 0
    while IFS= read -r -d '' file; do
        as_server "$BINDIR/pg_ctl" -D "${file%/*}" -w -s -m immediate stop </dev/null >/dev/null 2>&1 || :
    done < <(find "$1" -name postmaster.pid -print0)
}

# scratch_clean [STATUS]: ends the script with that status, or the one it had.
scratch_clean() {
    local status=${1:-$?} file
    trap - EXIT
    trap '' HUP INT TERM
    for file in ${CLUSTERS[@]+"${CLUSTERS[@]}"}; do
        cluster_stop "$file" immediate || :
    done
    stop_left_behind "$SCRATCH"
    if [[ -n ${CACHE_EXT_KEEP:-} ]]; then
        note "kept: $SCRATCH"
    else
        rm -rf "$SCRATCH"
    fi
    exit "$status"
}

# Building and installing -------------------------------------------------------------------------------------

# Prints the folder for builds: build/ in the checkout, or one in the scratch folder where that cannot be written.
build_root() {
    local dir=${CACHE_EXT_BUILD_DIR:-$ROOT/build}
    if ! { mkdir -p "$dir" && [[ -w $dir ]]; } 2>/dev/null; then
        dir=$SCRATCH/build
        mkdir -p "$dir"
    fi
    (cd "$dir" && pwd -P)
}

# sync_tree FROM TO NAME…: makes the files and folders so named in TO the same as in FROM, build outputs aside. Only what
# differs is written, so that make sees what changed, wherever and whenever an earlier copy came from.
sync_tree() {
    local from=$1 to=$2 file outputs=(-name build -o -name .git -o -name node_modules -o -name '*.o' -o -name '*.bc' -o
        -name '*.so' -o -name '*.dep' -o '(' -name 'cache_ext--*.sql' ! -name 'cache_ext--*--*.sql' ')')
    shift 2
    while IFS= read -r -d '' file; do
        cmp -s "$from/$file" "$to/$file" 2>/dev/null || {
            mkdir -p "$(dirname "$to/$file")"
            cp --preserve=mode "$from/$file" "$to/$file"
        }
    done < <(cd "$from" && find "$@" \( "${outputs[@]}" \) -prune -o -type f -print0)
    while IFS= read -r -d '' file; do
        [[ -e $from/$file ]] || rm -f "$to/$file"
    done < <(cd "$to" && find "$@" \( "${outputs[@]}" \) -prune -o -type f -print0)
}

# build_extension PG_CONFIG VARIANT: builds a copy of the sources, so that the developer's own build stays as it is, and
# prints the copy's folder. VARIANT is "plain", or "testing" for the build with debug points. What an earlier run built
# is used again.
build_extension() {
    local pg_config=$1 variant=$2 dir log knob=CACHE_EXT_TESTING=
    [[ $variant != testing ]] || knob+=1
    dir=$(build_root)/pg$(pg_major "$pg_config")-$variant
    mkdir -p "$dir"
    log=$dir/build.log
    (
        flock 9
        sync_tree "$ROOT" "$dir" Makefile cache_ext.control src sql
        cd "$dir"
        nice make -j"$(nproc)" PG_CONFIG="$pg_config" "$knob" all >"$log" 2>&1
    ) 9>"$dir/.lock" || {
        tail -n 60 "$log" >&2
        die "the extension does not build for $("$pg_config" --version) ($variant); all of the output is in $log"
    }
    printf '%s\n' "$dir"
}

# install_private PG_CONFIG BUILD PREFIX: a private PostgreSQL installation below the folder PREFIX, with the extension
# from the folder BUILD in it; prints its folder of programs. The server finds its files relative to its own program, so
# that has to be a copy; the rest are links to the machine's installation, which is not written to.
install_private() {
    local pg_config=$1 build=$2 prefix=$3 bindir sharedir libdir incdir file knob=CACHE_EXT_TESTING=
    [[ $build != *-testing ]] || knob+=1
    bindir=$("$pg_config" --bindir)
    sharedir=$("$pg_config" --sharedir)
    libdir=$("$pg_config" --pkglibdir)
    incdir=$("$pg_config" --includedir-server)
    mkdir -p "$prefix$bindir" "$prefix$sharedir/extension" "$prefix$libdir/bitcode" "$prefix$(dirname "$incdir")"
    for file in "$bindir"/{clusterdb,createdb,createuser,dropdb,dropuser,initdb,oid2name,pg_*,pgbench,postgres,psql,reindexdb,vacuumdb,vacuumlo}; do
        [[ ! -f $file ]] || cp -L "$file" "$prefix$bindir/"
    done
    # Debian's redis-tools and valkey-tools have the servers under other names.
    for file in redis valkey; do
        if ! command -v "$file-server" >/dev/null && command -v "$file-check-rdb" >/dev/null; then
            ln -sf "$(command -v "$file-check-rdb")" "$prefix$bindir/$file-server"
        fi
    done
    link_entries "$sharedir" "$prefix$sharedir"
    link_entries "$sharedir/extension" "$prefix$sharedir/extension"
    link_entries "$libdir" "$prefix$libdir"
    link_entries "$libdir/bitcode" "$prefix$libdir/bitcode"
    [[ -e $prefix$incdir ]] || ln -s "$incdir" "$prefix$incdir"
    (
        flock 9
        cd "$build"
        make -s PG_CONFIG="$pg_config" "$knob" DESTDIR="$prefix" install >"$prefix/install.log" 2>&1
    ) 9>"$build/.lock" || {
        cat "$prefix/install.log" >&2
        die "installing into $prefix failed"
    }
    printf '%s\n' "$prefix$bindir"
}

# link_entries FROM TO: a link in TO for each entry of FROM that is not in TO yet, the extension's own files excepted.
link_entries() {
    local entry
    for entry in "$1"/*; do
        [[ -e $entry && ${entry##*/} != cache_ext* && ! -e $2/${entry##*/} ]] || continue
        ln -s "$entry" "$2/"
    done
}

# Servers -----------------------------------------------------------------------------------------------------

# cluster_init DIR BINDIR [SETTING…]: a new server in DIR, which lies in the scratch folder, with lines for its
# postgresql.conf. It listens on a socket in DIR/s, and nowhere else unless a setting says so.
cluster_init() {
    local dir=$1 bindir=$2
    shift 2
    mkdir -p "$dir/s"
    chmod 0700 "$dir" "$dir/s"
    ((EUID != 0)) || chown "$SERVER_USER": "$dir" "$dir/s"
    printf '%s\n' "$bindir" >"$dir/bindir"
    chmod 0644 "$dir/bindir"
    as_server "$bindir/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C -N >"$dir/initdb.log" 2>&1 || {
        cat "$dir/initdb.log" >&2
        die 'initdb failed'
    }
    printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$dir/s'" 'port = 5432' 'fsync = off' \
        "log_line_prefix = '%m [%p] %q%a '" 'max_prepared_transactions = 10' "$@" >>"$dir/data/postgresql.conf"
    sed -n "s/^ *port *= *'\{0,1\}\([0-9]*\).*/\1/p" "$dir/data/postgresql.conf" | tail -n 1 >"$dir/port"
}

# cluster_start DIR
cluster_start() {
    local dir=$1 bindir
    bindir=$(cat "$dir/bindir")
    CLUSTERS+=("$dir")
    as_server "$bindir/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -s -t 120 start </dev/null >"$dir/pg_ctl.log" 2>&1 3>&- || {
        cat "$dir/pg_ctl.log" >&2
        tail -n 40 "$dir/server.log" >&2 || :
        die 'the server does not start'
    }
}

# cluster_stop DIR [MODE]: nothing when it is down. MODE as for pg_ctl, "fast" if not given.
cluster_stop() {
    local dir=$1
    [[ -f $dir/data/postmaster.pid ]] || return 0
    as_server "$(cat "$dir/bindir")/pg_ctl" -D "$dir/data" -w -s -t 120 -m "${2:-fast}" stop </dev/null >/dev/null 2>&1
}

# cluster_environment DIR: sets CLUSTER_ENV to the arguments for env with which clients find this server and no other.
CLUSTER_ENV=()
cluster_environment() {
    local dir=$1 bindir name
    bindir=$(cat "$dir/bindir")
    CLUSTER_ENV=()
    while IFS= read -r name; do
        [[ $name == PG_CONFIG ]] || CLUSTER_ENV+=(-u "$name")
    done < <(compgen -e PG || :)
    CLUSTER_ENV+=("PATH=$bindir:$PATH" "PGHOST=$dir/s" "PGPORT=$(cat "$dir/port")" PGUSER=postgres PGDATABASE=postgres
        PSQLRC=/dev/null PGSERVICEFILE=/dev/null "CACHE_EXT_BINDIR=$bindir" "CACHE_EXT_DATA=$dir/data"
        "CACHE_EXT_SERVER_LOG=$dir/server.log")
}
