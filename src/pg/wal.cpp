#include "pg/wal.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xlog_internal.h"
}

namespace cache_ext::pg {

void flush_wal() {
    XLogRecPtr end = GetXLogInsertRecPtr();
    // Where the last record fills its page, this is where the next one would begin: behind a header that nobody has written yet. To flush up to there is an error.
    if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD)
        end -= SizeOfXLogLongPHD;
    else if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
        end -= SizeOfXLogShortPHD;
    XLogFlush(end);
}

}  // namespace cache_ext::pg
