#include "worker/own_table.hpp"

#include "pg/subtransaction.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

namespace cache_ext::worker {

namespace {

constexpr char kExtension[] = "cache_ext";

Oid owner_of(Oid table) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
    if (!HeapTupleIsValid(tuple)) return InvalidOid;
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

}  // namespace

Oid open_own_table(Oid schema, const char* name, LOCKMODE lock) {
    const Oid table = get_relname_relid(name, schema);
    if (!OidIsValid(table) || get_rel_relkind(table) != RELKIND_RELATION) return InvalidOid;
    if (getExtensionOfObject(RelationRelationId, table) != get_extension_oid(kExtension, true))
        return InvalidOid;
    if (!ConditionalLockRelationOid(table, lock)) return InvalidOid;
    if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table))) return table;
    UnlockRelationOid(table, lock);
    return InvalidOid;
}

void execute_write(const char* sql, int count, Oid* types, Datum* values) {
    if (const int result = SPI_execute_with_args(sql, count, types, values, nullptr, false, 0); result < 0)
        elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(result));
}

void write_as_owner(Oid table, WriteTable write, const void* context) {
    Oid user = InvalidOid;
    int security = 0;
    GetUserIdAndSecContext(&user, &security);
    const int settings = NewGUCNestLevel();
    SetUserIdAndSecContext(owner_of(table),
                           security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    (void)set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
                            true, 0, false);
    PushActiveSnapshot(GetTransactionSnapshot());
    SPI_connect();
    write(quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), get_rel_name(table)),
          context);
    SPI_finish();
    PopActiveSnapshot();
    AtEOXact_GUC(false, settings);
    SetUserIdAndSecContext(user, security);
}

void write_own_table(Oid schema, const char* name, LOCKMODE lock, WriteTable write, const void* context) {
    // An index that is full or a constraint that somebody added is no reason to fail whoever calls this.
    ErrorData* error = pg::attempt([=] {
        const Oid table = open_own_table(schema, name, lock);
        if (OidIsValid(table)) write_as_owner(table, write, context);
    });
    if (error == nullptr) return;
    ereport(WARNING, (errmsg("could not write to \"%s\": %s", name, error->message)));
    FreeErrorData(error);
}

}  // namespace cache_ext::worker
