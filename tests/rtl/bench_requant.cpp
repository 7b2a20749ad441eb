// Streams words through one requantiser lane, one per cycle: int32[8] in (mode, value low, value high, multiplier,
// shift, zero point, lowest, highest), int32 out. The lane is three registers deep.
#include <cstdint>
#include <fstream>
#include <vector>

#include "Vrequant.h"
#include "verilated.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::ifstream file(argv[1], std::ios::binary | std::ios::ate);
  std::vector<int32_t> in(static_cast<size_t>(file.tellg()) / 4);
  file.seekg(0);
  file.read(reinterpret_cast<char*>(in.data()), static_cast<std::streamsize>(in.size() * 4));
  const size_t count = in.size() / 8, depth = 3;
  std::vector<int32_t> out(count);

  VerilatedContext context;
  Vrequant lane{&context};
  for (size_t i = 0; i < count + depth; i++) {
    if (i < count) {
      const int32_t* word = &in[i * 8];
      lane.value = static_cast<uint32_t>(word[1]) | (static_cast<uint64_t>(static_cast<uint32_t>(word[2])) << 32);
      lane.multiplier = static_cast<uint32_t>(word[3]);
      lane.shift = word[4] & 0xff;
    }
    // Mode, zero point and clamp are constant in the machine: they are not in the pipeline and belong to the word that
    // ends.
    const int32_t* late = &in[(i < depth - 1 ? 0 : i - depth + 1 < count ? i - depth + 1 : count - 1) * 8];
    lane.fixed_point = late[0];
    lane.zero_point = late[5] & 0x3ffff;
    lane.lowest = late[6] & 0x3ffff;
    lane.highest = late[7] & 0x3ffff;
    lane.clk = 0;
    lane.eval();
    lane.clk = 1;
    lane.eval();
    if (i + 1 >= depth && i + 1 - depth < count) {
      const int32_t result = static_cast<int32_t>(lane.result);
      out[i + 1 - depth] = result & 0x20000 ? result - 0x40000 : result;
    }
  }
  lane.final();
  std::ofstream target(argv[2], std::ios::binary);
  target.write(reinterpret_cast<const char*>(out.data()), static_cast<std::streamsize>(count * 4));
  return target.good() ? 0 : 1;
}
