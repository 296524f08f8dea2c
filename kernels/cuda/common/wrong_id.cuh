// What EMBPRESS_CHECK=1 finds in the ids of several tables: the first one out of range.
#pragma once

#include "../../common/errors.h"
#include "device.h"
#include "lookups.cuh"

namespace embpress::cuda {

struct WrongId {
  unsigned long long lookup;  // the first one whose id is out of range; none: above all
  long long id, table, rows;  // what it is
};

static __global__ void find_wrong_id(Lookups lookups, WrongId* wrong) {
  const int64_t i = global_thread();
  if (i < lookups.count && lookups.row(i) < 0) atomicMin(&wrong->lookup, static_cast<unsigned long long>(i));
}

static __global__ void name_wrong_id(Lookups lookups, WrongId* wrong) {
  const int64_t i = static_cast<int64_t>(wrong->lookup);
  if (i < 0 || i >= lookups.count) return;
  wrong->table = lookups.table(i);
  wrong->id = lookups.ids[i];
  wrong->rows = lookups.rows[wrong->table];
}

// Waits for the device.
inline void check_ids(Device& device, const Lookups& lookups) {
  if (!Device::checks() || lookups.count == 0) return;
  WrongId* wrong = device.scratch<WrongId>(1);
  device.fill(wrong, 0xFF, sizeof(WrongId));
  device.launch_for(lookups.count, find_wrong_id, lookups, wrong);
  device.launch(name_wrong_id, dim3(1), dim3(1), 0, lookups, wrong);
  const WrongId found = device.read(static_cast<const WrongId*>(wrong));
  if (found.lookup != ~0ull) refuse_id(found.id, found.table, found.rows);
}

}  // namespace embpress::cuda
