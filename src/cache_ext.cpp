// The module's entry points for the server.

#include "api/cached_function.hpp"
#include "api/policies.hpp"
#include "api/storage_pending.hpp"
#include "api/storage_tables.hpp"
#include "api/watch_sql.hpp"
#include "pg/attach.hpp"
#include "pg/guard.hpp"
#include "pg/identity.hpp"
#include "pg/observe.hpp"
#include "pg/queue.hpp"
#include "pg/queue_in_redis.hpp"
#include "pg/redis_settings.hpp"
#include "pg/replication.hpp"
#include "pg/settings.hpp"
#include "pg/space.hpp"
#include "pg/temporary.hpp"
#include "pg/transaction.hpp"
#include "worker/worker.hpp"
#include "pg/writes.hpp"

CACHE_EXT_EXPORT const Pg_magic_struct* Pg_magic_func(void);
CACHE_EXT_EXPORT void _PG_init(void);

extern "C" {
PG_MODULE_MAGIC;
}

extern "C" void _PG_init() {
    using namespace cache_ext;
    pg::define_settings();
    pg::init_attach();
    pg::init_replication();
    pg::init_space();
    pg::init_identity();
    pg::init_transaction();
    pg::init_writes();
    pg::init_observe();
    pg::init_temporary();
    pg::init_redis_settings();
    pg::init_queues();
    pg::init_queue_in_redis();
    api::init_policies();
    api::init_cached_functions();
    api::init_watch_sql();
    api::init_storage_tables();
    worker::init_worker();
    api::init_storage_pending();
}
