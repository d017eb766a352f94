// cuda_pipeline.h -- the emulator's look-alike of the toolkit's header: copies happen at the wait that covers them.
#pragma once

__forceinline__ void __pipeline_memcpy_async(void* shared, const void* global, size_t bytes, size_t zero_fill = 0) {
  emulated_copy_async(shared, global, (int)bytes, (int)(bytes - zero_fill));
}
__forceinline__ void __pipeline_commit() { emulated_copy_async_commit(); }
__forceinline__ void __pipeline_wait_prior(int groups) { emulated_copy_async_wait(groups); }
