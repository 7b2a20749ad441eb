// Runs many cases through the verilated machine: reads int32 words, writes int64 words (formats: tests/rtl/cases.py).
// It plays the operand memories (one cycle of latency, garbage in lanes that were not asked for), the readiness of the
// operands, and the LOAD and STORE engines of the timing contract, section 5.1. It knows nothing about the schedule.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <type_traits>
#include <vector>

#include "Vmachine.h"
#include "verilated.h"

namespace {

constexpr int R = ARRAY_R, C = ARRAY_C;
constexpr int64_t kNever = INT64_MIN;

template <class Port>
uint32_t word(const Port& port, int index) {
  if constexpr (std::is_integral_v<Port>) return static_cast<uint32_t>(static_cast<uint64_t>(port) >> (32 * index));
  else return port[index];
}

template <class Port>
void put(Port& port, int index, uint32_t value) {
  if constexpr (std::is_integral_v<Port>) {
    const uint64_t mask = 0xffffffffULL << (32 * index);
    port = static_cast<Port>((static_cast<uint64_t>(port) & ~mask) | (static_cast<uint64_t>(value) << (32 * index)));
  } else {
    port[index] = value;
  }
}

template <class Port>
uint32_t half(const Port& port, int index) { return (word(port, index / 2) >> (16 * (index % 2))) & 0xffff; }

template <class Port>
uint64_t low64(const Port& port) {
  if constexpr (std::is_integral_v<Port>) return static_cast<uint64_t>(port);
  else return word(port, 0) | (static_cast<uint64_t>(word(port, 1)) << 32);
}

struct Header {
  int32_t output_stationary, by_row, double_buffer, drain_overlap, flush, full_load, saturate, acc_bits, block_rows;
  int32_t t, k, n, banks, requant, fixed_point, lanes, zero_point, lowest, highest;
  int32_t input_stationary, gather_words;
  int32_t tiles, blocks, load_buffers, output_buffers, latency, trace, seed, limit;
  int32_t map_words, pad_value, geometry[14], reserved;  // map_words > 0: the activations are a feature map
};

class Words {
 public:
  explicit Words(const char* name) {
    std::ifstream file(name, std::ios::binary | std::ios::ate);
    data_.resize(static_cast<size_t>(file.tellg()) / 4);
    file.seekg(0);
    file.read(reinterpret_cast<char*>(data_.data()), static_cast<std::streamsize>(data_.size() * 4));
  }
  bool more() const { return at_ < data_.size(); }
  const int32_t* take(size_t count) {
    const int32_t* here = data_.data() + at_;
    at_ += count;
    return here;
  }

 private:
  std::vector<int32_t> data_;
  size_t at_ = 0;
};

// LOAD and STORE: in-order channels that know the array only by the tokens it hands over. Each block loads its
// stationary operand and then its streamed one (negative: it is there already); data is complete `latency` cycles
// behind the channel.
struct Transfers {
  const int32_t *stationary, *streamed, *store;
  int load = 0, stored = 0, storing = 0;
  int64_t load_end = 0, store_end = 0;
  std::vector<int64_t> stationary_at, streamed_at, stored_at;

  explicit Transfers(int blocks)
      : stationary_at(blocks, kNever), streamed_at(blocks, kNever), stored_at(blocks, kNever) {}

  void step(const Header& h, int64_t cycle, int issued, int requantised) {
    for (; load < 2 * h.blocks; load++) {
      const int beats = (load % 2 ? streamed : stationary)[load / 2];
      int64_t& at = (load % 2 ? streamed_at : stationary_at)[load / 2];
      if (beats < 0) { at = 0; continue; }
      if (cycle < load_end || load / 2 >= issued + h.load_buffers) break;
      load_end = cycle + beats;
      at = load_end + h.latency;
    }
    while (storing < requantised && cycle >= store_end) {
      store_end = cycle + store[storing];
      stored_at[storing++] = store_end + h.latency;
    }
    while (stored < storing && cycle >= stored_at[stored]) stored++;
  }
  static bool reached(const std::vector<int64_t>& at, const int32_t* beats, int block, int64_t cycle) {
    return beats[block] < 0 || (at[block] != kNever && cycle >= at[block]);
  }
};

uint32_t noise_state;
uint32_t noise() {
  noise_state ^= noise_state << 13;
  noise_state ^= noise_state >> 17;
  noise_state ^= noise_state << 5;
  return noise_state;
}

void configure(Vmachine& m, const Header& h) {
  m.output_stationary = h.output_stationary;
  m.input_stationary = h.input_stationary;
  m.gather_words = h.gather_words;
  m.double_buffer = h.double_buffer;
  m.drain_overlap = h.drain_overlap;
  m.flush_between_tiles = h.flush;
  m.full_weight_load = h.full_load;
  m.saturate = h.saturate;
  m.acc_bits = h.acc_bits;
  m.block_rows = h.block_rows;
  m.t_total = h.t;
  m.k_total = h.k;
  m.n_total = h.n;
  m.banks = h.banks;
  m.requant_enabled = h.requant;
  m.fixed_point = h.fixed_point;
  m.requant_lanes = h.lanes;
  m.zero_point = h.zero_point & 0x3ffff;
  m.lowest = h.lowest & 0x3ffff;
  m.highest = h.highest & 0x3ffff;
  m.implicit_im2col = h.map_words > 0;
  m.pad_value = h.pad_value & 0xffff;
  for (int i = 0; i < 7; i++) {  // the first field is the highest one
    const uint32_t low = h.map_words ? h.geometry[13 - 2 * i] : 1, high = h.map_words ? h.geometry[12 - 2 * i] : 1;
    put(m.geometry, i, low | (high << 16));
  }
  m.weights_ready = m.operands_ready = m.output_ready = 0;
  m.restart = 1;
  for (int i = 0; i < R + C + 4; i++) {  // also lets the tokens of the case before leave the array
    m.clk = 0;
    m.eval();
    m.clk = 1;
    m.eval();
  }
  m.restart = 0;
}

struct Request {
  int x_enable = 0, x_lanes = 0, x_row = 0, x_depth = 0, w_enable = 0, w_columns = 0, w_depth = 0, w_column = 0;
  int bias_row = 0, bias_column = 0, scale_row = 0, scale_column = 0;
  uint32_t x_address[R] = {}, w_address[C] = {}, x_pad = 0, w_pad = 0;
  void sample(const Vmachine& m) {
    x_enable = m.x_enable; x_lanes = m.x_lanes; x_row = m.x_row; x_depth = m.x_depth;
    w_enable = m.w_enable; w_columns = m.w_columns; w_depth = m.w_depth; w_column = m.w_column;
    bias_row = m.bias_row; bias_column = m.bias_column; scale_row = m.scale_row; scale_column = m.scale_column;
    for (int r = 0; r < R; r++) x_address[r] = word(m.x_address, r);
    for (int c = 0; c < C; c++) w_address[c] = word(m.w_address, c);
    x_pad = m.x_pad;
    w_pad = m.w_pad;
  }
};

struct Operands {
  const int32_t *x, *w, *bias, *multiplier, *shift;
  void answer(Vmachine& m, const Header& h, const Request& q) const {
    for (int r = 0; r < R; r++) {
      const int row = h.output_stationary ? q.x_row + r : q.x_row;
      const int depth = h.output_stationary ? q.x_depth : q.x_depth + r;
      const bool map = h.map_words && !h.input_stationary;
      bool known = q.x_enable && r < q.x_lanes && row < h.t && depth < h.k;
      const size_t at = map ? q.x_address[r] : static_cast<size_t>(row) * h.k + depth;
      if (map && known) known = !(q.x_pad >> r & 1) && at < static_cast<size_t>(h.map_words);
      put(m.x_data, r, known ? static_cast<uint32_t>(x[at]) : noise());
    }
    for (int c = 0; c < C; c++) {
      const bool map = h.map_words && h.input_stationary;
      bool known = q.w_enable && c < q.w_columns && q.w_column + c < h.n && q.w_depth < h.k;
      const size_t at = map ? q.w_address[c] : static_cast<size_t>(q.w_depth) * h.n + q.w_column + c;
      if (map && known) known = !(q.w_pad >> c & 1) && at < static_cast<size_t>(h.map_words);
      put(m.w_data, c, known ? static_cast<uint32_t>(w[at]) : noise());
      const int b = h.by_row ? q.bias_row : q.bias_column + c;
      put(m.bias_data, c, b < (h.by_row ? h.t : h.n) ? static_cast<uint32_t>(bias[b]) : noise());
      const int s = h.by_row ? q.scale_row : q.scale_column + c;
      const bool scaled = h.requant && s < (h.by_row ? h.t : h.n);
      put(m.scale_multiplier, c, scaled ? static_cast<uint32_t>(multiplier[s]) : noise());
      put(m.scale_shift, c, scaled ? static_cast<uint32_t>(shift[s]) : 0);
    }
  }
};

void run_case(Vmachine& m, Words& in, std::ofstream& out) {
  Header h;
  const int32_t* words = in.take(sizeof(Header) / 4);
  std::copy(words, words + sizeof(Header) / 4, reinterpret_cast<int32_t*>(&h));
  const size_t outputs = static_cast<size_t>(h.t) * h.n, per = h.by_row ? h.t : h.n;
  Operands operands{};
  operands.x = in.take(h.map_words && !h.input_stationary ? h.map_words : static_cast<size_t>(h.t) * h.k);
  operands.w = in.take(h.map_words && h.input_stationary ? h.map_words : static_cast<size_t>(h.k) * h.n);
  operands.bias = in.take(per);
  if (h.requant) {
    operands.multiplier = in.take(per);
    operands.shift = in.take(per);
  }
  const int32_t* weights_at = in.take(h.tiles);
  const int32_t* operands_at = in.take(h.tiles);
  Transfers transfers(h.blocks);
  if (h.load_buffers) {
    transfers.stationary = in.take(h.blocks);
    transfers.streamed = in.take(h.blocks);
    transfers.store = in.take(h.blocks);
  }
  noise_state = static_cast<uint32_t>(h.seed) * 2654435761u | 1u;

  std::vector<int64_t> starts(h.tiles, kNever), pushes(h.tiles, kNever);
  std::vector<int64_t> ready(h.blocks, kNever), done(h.blocks, kNever);
  std::vector<int64_t> sums(outputs, kNever), results(outputs, kNever);
  std::vector<int64_t> trace;
  int64_t repeated = 0, cycle = 0;
  int blocks_ready = 0, blocks_done = 0;
  configure(m, h);
  Request request;
  for (;; cycle++) {
    while (blocks_done < m.probe_blocks_done) done[blocks_done++] = cycle;
    m.weights_ready = m.push_tile < h.tiles && cycle >= weights_at[m.push_tile];
    m.operands_ready = m.stream_tile < h.tiles && cycle >= operands_at[m.stream_tile];
    m.output_ready = 1;
    if (h.load_buffers) {
      transfers.step(h, cycle, m.stream_block, blocks_done);
      const int block = m.stream_block;
      m.weights_ready = m.weights_ready
          && Transfers::reached(transfers.stationary_at, transfers.stationary, m.push_block, cycle);
      m.operands_ready = m.operands_ready && Transfers::reached(transfers.streamed_at, transfers.streamed, block, cycle)
          && (!h.output_stationary || Transfers::reached(transfers.stationary_at, transfers.stationary, block, cycle));
      m.output_ready = m.output_block < transfers.stored + h.output_buffers;
    }
    operands.answer(m, h, request);
    m.clk = 0;
    m.eval();
    request.sample(m);
    if (m.probe_tile_starts) starts[m.stream_tile] = cycle;
    if (m.probe_push_starts) pushes[m.push_tile] = cycle;
    if (m.probe_block_ready) ready[blocks_ready++] = cycle + 1;
    for (int c = 0; c < C; c++) {
      if ((word(m.commit_live, 0) >> c & 1) && (word(m.commit_is_final, 0) >> c & 1)) {
        const size_t at = static_cast<size_t>(half(m.commit_at_row, c)) * h.n + half(m.commit_at_column, c) + c;
        if (at >= outputs) { repeated++; continue; }
        repeated += sums[at] != kNever;
        const uint64_t high = word(m.commit_data, 2 * c + 1);
        sums[at] = static_cast<int64_t>(word(m.commit_data, 2 * c) | (high << 32));
      }
      if (word(m.result_valid, 0) >> c & 1) {
        const size_t at = static_cast<size_t>(m.result_row) * h.n + m.result_column + c;
        if (at >= outputs) { repeated++; continue; }
        repeated += results[at] != kNever;
        results[at] = static_cast<int32_t>(word(m.result, c));
      }
    }
    if (h.trace) {
      const uint64_t issue = m.probe_token | (static_cast<uint64_t>(m.probe_class) << 8)
          | (static_cast<uint64_t>(m.probe_tile_starts) << 16) | (static_cast<uint64_t>(m.probe_push_starts) << 17)
          | (static_cast<uint64_t>(m.probe_block_ready) << 18) | (static_cast<uint64_t>(m.finished) << 19);
      const uint64_t edges = word(m.commit_live, 0) | (static_cast<uint64_t>(word(m.probe_bank_read, 0)) << 16)
          | (static_cast<uint64_t>(word(m.probe_drain, 0)) << 32)
          | (static_cast<uint64_t>(word(m.result_valid, 0)) << 48);
      trace.insert(trace.end(), {static_cast<int64_t>(issue), static_cast<int64_t>(edges),
                                 static_cast<int64_t>(low64(m.probe_multiplies)),
                                 static_cast<int64_t>(word(m.probe_bias, 0))});
    }
    const bool last_store = !h.load_buffers || transfers.storing == h.blocks;
    const bool stop = (m.finished && last_store) || cycle >= h.limit;
    m.clk = 1;
    m.eval();
    if (stop) break;
  }
  std::vector<int64_t> reply;
  reply.push_back(m.total);
  for (int i = 0; i < 7; i++) reply.push_back(word(m.class_cycles, i));
  for (int i = 0; i < 6; i++) reply.push_back(word(m.events, i));
  reply.push_back(m.conflict);
  reply.push_back(repeated);
  reply.push_back(cycle >= h.limit);
  reply.push_back(static_cast<int64_t>(trace.size() / 4));
  for (const auto* part : {&starts, &pushes, &ready, &done, &transfers.streamed_at, &transfers.stored_at, &sums, &results,
                           &trace})
    reply.insert(reply.end(), part->begin(), part->end());
  out.write(reinterpret_cast<const char*>(reply.data()), static_cast<std::streamsize>(reply.size() * 8));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  VerilatedContext context;
  Vmachine machine{&context};
  Words in(argv[1]);
  std::ofstream out(argv[2], std::ios::binary);
  while (in.more()) run_case(machine, in, out);
  machine.final();
  return out.good() ? 0 : 1;
}
