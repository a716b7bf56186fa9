#pragma once

// Keeps the tables of queues small. New items go to one of them; when that has grown, to another, empty one; and a table that has nothing left in it is truncated. A few items that
// nobody takes are moved out of the way. All of it in short transactions that wait for nobody and that sessions pass by.

namespace cache_ext::worker {

/// Does what there is to do in the database that this worker is in, and stays for a moment to see whether there is more.
void keep_queues();

}  // namespace cache_ext::worker
