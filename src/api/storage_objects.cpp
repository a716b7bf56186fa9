#include "api/storage_objects.hpp"

#include "pg/environment.hpp"

extern "C" {
#include "catalog/namespace.h"
#include "utils/lsyscache.h"
}

namespace cache_ext::api {

Oid storage_table(const char* name) {
    const Oid schema = get_namespace_oid("storage", true);
    const Oid table = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
    if (!OidIsValid(table)) {
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation \"storage.%s\" does not exist", name),
                 errhint("It is made by the storage service of Supabase.")));
    }
    return table;
}

void set_storage_operation(const char* operation) { pg::set_locally("storage.operation", operation); }

}  // namespace cache_ext::api
