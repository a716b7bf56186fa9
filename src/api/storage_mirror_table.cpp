#include "api/storage_mirror_table.hpp"

#include "api/storage_mirror.hpp"
#include "pg/space.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace cache_ext::api {

namespace {

constexpr char kTable[] = "storage_usage";

void execute(const char* sql) {
    if (const int result = SPI_execute(sql, false, 0); result < 0)
        elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
}

/// Whether a query returns true.
bool ask(const char* sql) {
    if (const int result = SPI_execute(sql, false, 1); result < 0)
        elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
    bool is_null = true;
    const bool answer = SPI_processed == 1 && DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
                                                                         SPI_tuptable->tupdesc, 1, &is_null));
    return answer && !is_null;
}

bool has_role(const char* name) { return OidIsValid(get_role_oid(name, true)); }

/// The application's table.
Oid find_table() {
    const List* path = fetch_search_path(false);
    for (int i = 0; i < list_length(path); ++i) {
        // Not one that goes with the session.
        if (isAnyTempNamespace(list_nth_oid(path, i))) continue;
        if (const Oid visible = get_relname_relid(kTable, list_nth_oid(path, i)); OidIsValid(visible))
            return visible;
    }
    for (const Oid schema : {get_namespace_oid("public", true), pg::current_space().schema}) {
        if (!OidIsValid(schema)) continue;
        if (const Oid table = get_relname_relid(kTable, schema); OidIsValid(table)) return table;
    }
    return InvalidOid;
}

/// Whether auth.users is there with users to refer to.
bool has_users() {
    const Oid schema = get_namespace_oid("auth", true);
    const Oid users = OidIsValid(schema) ? get_relname_relid("users", schema) : InvalidOid;
    if (!OidIsValid(users)) return false;
    const AttrNumber id = get_attnum(users, "id");
    return id != InvalidAttrNumber && get_atttype(users, id) == UUIDOID;
}

constexpr char kForeignKey[] = "FOREIGN KEY (user_id) REFERENCES auth.users (id) ON DELETE CASCADE";

bool may_refer_to_users() {
    return has_users() && pg_class_aclcheck(get_relname_relid("users", get_namespace_oid("auth", false)),
                                            GetUserId(), ACL_REFERENCES) == ACLCHECK_OK;
}

struct Column {
    const char* name;
    const char* definition;
};

constexpr Column kColumns[] = {{"total_bytes", "bigint NOT NULL DEFAULT 0"},
                               {"file_count", "bigint NOT NULL DEFAULT 0"},
                               {"buckets", "jsonb NOT NULL DEFAULT '{}'"},
                               {"last_calculated_at", "timestamptz"}};

void make_table(const char* table) {
    execute(
        psprintf("CREATE TABLE %s (user_id uuid PRIMARY KEY, total_bytes bigint NOT NULL DEFAULT 0,"
                 " file_count bigint NOT NULL DEFAULT 0, buckets jsonb NOT NULL DEFAULT '{}',"
                 " last_calculated_at timestamptz%s%s)",
                 table, may_refer_to_users() ? ", " : "", may_refer_to_users() ? kForeignKey : ""));
    execute(psprintf(
        "COMMENT ON TABLE %s IS 'storage usage by user, as of the last time that cache_ext wrote it down;"
        " get_user_storage_usage() tells it as it is'",
        table));
    execute(psprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", table));
    // What default privileges have just granted.
    execute(psprintf("REVOKE ALL ON %s FROM PUBLIC", table));
    for (const char* role : {"anon", "authenticated"}) {
        if (has_role(role)) execute(psprintf("REVOKE ALL ON %s FROM %s", table, role));
    }
    if (has_role("service_role")) {
        execute(psprintf("GRANT ALL ON %s TO service_role", table));
        execute(psprintf(
            "CREATE POLICY \"all for service_role\" ON %s TO service_role USING (true) WITH CHECK (true)",
            table));
    }
    if (has_role("authenticated")) {
        execute(psprintf("GRANT SELECT ON %s TO authenticated", table));
        const bool has_uid = ask("SELECT pg_catalog.to_regprocedure('auth.uid()') IS NOT NULL");
        execute(psprintf(
            "CREATE POLICY \"own row\" ON %s FOR SELECT TO authenticated USING (%s)", table,
            has_uid ? "user_id OPERATOR(pg_catalog.=) (SELECT auth.uid())"
                    : "user_id::text OPERATOR(pg_catalog.=) (SELECT nullif(pg_catalog.current_setting("
                      "'request.jwt.claims', true), '')::jsonb OPERATOR(pg_catalog.->>) 'sub')"));
    }
}

/// A column that a new row of ours would lack; null: there is none.
const char* column_to_be_filled(Oid table) {
    const char* sql = psprintf(
        "SELECT a.attname FROM pg_catalog.pg_attribute a WHERE a.attrelid = %u AND a.attnum > 0"
        " AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''"
        " AND a.attname NOT IN ('user_id', 'total_bytes', 'file_count', 'buckets', 'last_calculated_at')"
        " ORDER BY a.attnum",
        table);
    if (const int result = SPI_execute(sql, false, 1); result < 0)
        elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
    return SPI_processed == 0 ? nullptr : SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/// A table of the application's keeps all that it has.
void adopt_table(Oid oid, const char* table) {
    Relation relation = relation_open(oid, AccessShareLock);
    const char kind = relation->rd_rel->relkind;
    const bool has_security = relation->rd_rel->relrowsecurity;
    relation_close(relation, AccessShareLock);
    const AttrNumber user = get_attnum(oid, "user_id");
    const bool fits =
        kind == RELKIND_RELATION && user != InvalidAttrNumber && get_atttype(oid, user) == UUIDOID &&
        ask(psprintf(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = %u AND"
            " i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1"
            " AND i.indkey[0] = %d)",
            oid, user));
    if (!fits) {
        ereport(ERROR,
                (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s cannot be used for the storage usage", table),
                 errdetail("It is no table with a unique column \"user_id\" of type uuid."),
                 errhint("Rename it, or give it that column as its primary key.")));
    }
    for (const Column& column : kColumns) {
        if (get_attnum(oid, column.name) == InvalidAttrNumber)
            execute(psprintf("ALTER TABLE %s ADD COLUMN %s %s", table, column.name, column.definition));
    }
    if (const ErrorData* error = try_storage_mirror(oid); error != nullptr) {
        ereport(ERROR,
                (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s cannot be used for the storage usage", table),
                 errdetail("It could not be written to: %s", error->message),
                 errhint("Rename it, or give its columns the types that they have where there is none.")));
    }
    if (const char* column = column_to_be_filled(oid); column != nullptr) {
        ereport(NOTICE, (errmsg("users without a row in %s will be given none", table),
                         errdetail("A new row needs a value for column \"%s\".", column)));
    }
    if (!has_security) {
        ereport(NOTICE, (errmsg("row security of %s is off", table),
                         errhint("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", table)));
    }
    if (has_users() &&
        !ask(psprintf(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = %u AND c.contype = 'f'"
            " AND c.conkey = ARRAY[%d]::smallint[] AND c.confdeltype = 'c')",
            oid, user))) {
        ereport(NOTICE, (errmsg("rows of deleted users stay in %s", table),
                         errhint("ALTER TABLE %s ADD %s", table, kForeignKey)));
    }
}

}  // namespace

UsageTable prepare_usage_table() {
    const Oid found = find_table();
    const Oid schema = OidIsValid(found) ? get_rel_namespace(found) : pg::current_space().schema;
    const UsageTable result{get_namespace_name(schema), kTable};
    const char* table = quote_qualified_identifier(result.schema, result.name);
    const int settings = NewGUCNestLevel();
    (void)set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
                            true, 0, false);
    SPI_connect();
    if (OidIsValid(found)) {
        adopt_table(found, table);
    } else {
        make_table(table);
    }
    SPI_finish();
    AtEOXact_GUC(false, settings);
    return result;
}

}  // namespace cache_ext::api
