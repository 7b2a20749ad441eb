// The array's controller: it issues one step token per cycle at the corner, following the timing contract, sections 4.1 to
// 4.4, and books every cycle before the tail under one class (section 4.3). Readiness comes in as levels, as from token
// counters: the engine never knows a time in advance.
module engine #(
    parameter int R = 4,
    parameter int C = 4
) (
    input  logic        clk,
    input  logic        restart,
    input  logic        output_stationary,
    input  logic        double_buffer,
    input  logic        drain_overlap,
    input  logic        flush_between_tiles,
    input  logic        full_weight_load,
    input  logic [15:0] block_rows,
    input  logic [15:0] t_total,
    input  logic [15:0] k_total,
    input  logic [15:0] n_total,
    input  logic [ 1:0] banks,
    // operands of the tile to push and of the tile to stream, accumulator bank of the block to stream
    output logic [15:0] push_tile,
    output logic [15:0] stream_tile,
    output logic [15:0] stream_block,
    input  logic        weights_ready,
    input  logic        operands_ready,
    input  logic        bank_free,
    // the step of this cycle
    output logic [ 7:0] token,
    output logic [ 7:0] live_rows,
    output logic [ 7:0] live_columns,
    output logic [15:0] x_row,
    output logic [15:0] x_depth,
    output logic        w_enable,
    output logic [15:0] w_depth,
    output logic [15:0] w_column,
    output logic [ 7:0] w_columns,
    output logic [15:0] bias_column,
    // accumulator read of this step, result of this step
    output logic        bank_read,
    output logic        commit,
    output logic        commit_final,
    output logic        commit_ends_block,
    output logic [ 7:0] commit_columns,
    output logic [ 1:0] bank,
    output logic [ 1:0] commit_bank,
    output logic [15:0] bank_row,
    output logic [15:0] commit_bank_row,
    output logic [15:0] commit_row,
    output logic [15:0] commit_column,
    output logic        tile_starts,
    output logic        push_starts,
    output logic [ 6:0] cycle_class
);
  `include "token.svh"

  // ---- two walkers over the same tiles: the one whose weights are pushed runs ahead of the one that streams
  logic s_valid, s_first, s_last, p_valid;
  logic [15:0] s_column, s_row, s_offset, s_depth_base, s_rows, s_depth, s_columns;
  logic [15:0] p_column, p_depth_base, p_depth, p_columns;
  logic s_advance, p_advance;

  tile_walker #(.R(R), .C(C)) stream_walker (
      .clk, .restart, .advance(s_advance), .output_stationary, .block_rows, .t_total, .k_total, .n_total,
      .valid(s_valid), .index(stream_tile), .block(stream_block), .column_base(s_column), .row_base(s_row),
      .row_offset(s_offset), .depth_base(s_depth_base), .rows(s_rows), .depth(s_depth), .columns(s_columns),
      .first_of_block(s_first), .last_of_block(s_last)
  );
  tile_walker #(.R(R), .C(C)) push_walker (
      .clk, .restart, .advance(p_advance), .output_stationary, .block_rows, .t_total, .k_total, .n_total,
      .valid(p_valid), .index(push_tile), .block(), .column_base(p_column), .row_base(), .row_offset(),
      .depth_base(p_depth_base), .rows(), .depth(p_depth), .columns(p_columns), .first_of_block(), .last_of_block()
  );

  // ---- streaming
  logic streaming, starts, mac, last_step, shift, drained, flushed, may_start;
  logic [15:0] step, step_now, steps;
  logic [15:0] hazard_left, flush_left, shifts_left;
  logic weights_loaded;

  assign steps = output_stationary ? s_depth : s_rows;
  assign flushed = flush_left == 0;
  // Overlapped: the shifts that are left must fit behind the first step of the tile, which needs the v wire for its bias.
  assign drained = drain_overlap && !flush_between_tiles ? shifts_left < s_depth : shifts_left == 0;
  assign weights_loaded = push_tile > stream_tile;
  assign may_start = operands_ready && (bank_free || !s_first) && flushed
      && (output_stationary ? drained : weights_loaded && hazard_left == 0);
  assign starts = s_valid && !streaming && may_start;
  assign mac = streaming || starts;
  assign step_now = streaming ? step : 16'd0;
  assign last_step = mac && step_now + 1 == steps;
  assign s_advance = last_step;
  assign shift = output_stationary && shifts_left != 0 && !starts;

  always_ff @(posedge clk) begin
    if (restart) begin
      streaming <= 0;
      step <= 0;
      hazard_left <= 0;
      flush_left <= 0;
      shifts_left <= 0;
    end else begin
      streaming <= mac && !last_step;
      step <= step_now + 1;
      // The next k-fold reads a row R + 2 cycles after this tile's step for it was issued, at the earliest.
      if (starts) hazard_left <= s_last ? 16'd0 : 16'(R + 1);
      else if (hazard_left != 0) hazard_left <= hazard_left - 1;
      if (output_stationary && last_step) shifts_left <= 16'(R);
      else if (shift) shifts_left <= shifts_left - 1;
      if (flush_between_tiles && s_valid && (output_stationary ? shift && shifts_left == 1 : last_step))
        flush_left <= 16'(R + C);
      else if (flush_left != 0) flush_left <= flush_left - 1;
    end
  end

  // ---- pushing weights
  logic pushing, push, base_reached, last_push, bank_parity;
  logic [15:0] push_step, push_now, push_length, push_row;

  assign push_length = full_weight_load ? 16'(R) : p_depth;
  // Double-buffered: from the first step of the tile before. Single-buffered: after its last step.
  assign base_reached = push_tile == stream_tile ? !streaming && flushed
      : double_buffer && !flush_between_tiles && push_tile == stream_tile + 1 && mac;
  assign push_starts = !output_stationary && p_valid && !pushing && base_reached && weights_ready;
  assign push = pushing || push_starts;
  assign push_now = pushing ? push_step : 16'd0;
  assign last_push = push && push_now + 1 == push_length;
  assign push_row = push_length - 1 - push_now;
  assign p_advance = last_push;

  always_ff @(posedge clk) begin
    if (restart) begin
      pushing   <= 0;
      push_step <= 0;
    end else begin
      pushing   <= push && !last_push;
      push_step <= push_now + 1;
    end
  end

  // ---- the step token and its operands
  always_comb begin
    token = 0;
    token[MAC] = mac;
    token[CSEL] = double_buffer && stream_tile[0];
    token[PUSH] = push;
    token[PSEL] = double_buffer && push_tile[0];
    token[FIRST] = mac && (output_stationary ? starts : s_depth_base == 0);
    token[LAST] = output_stationary && last_step;
    token[SHIFT] = shift;
  end
  assign live_rows = output_stationary ? s_rows[7:0] : s_depth[7:0];
  assign live_columns = s_columns[7:0];
  assign x_row = output_stationary ? s_row + s_offset : s_row + step_now;
  assign x_depth = output_stationary ? step_now : s_depth_base;
  assign w_enable = output_stationary ? mac : push && push_row < p_depth;
  assign w_depth = output_stationary ? step_now : p_depth_base + push_row;
  assign w_column = output_stationary ? s_column : p_column;
  assign w_columns = output_stationary ? s_columns[7:0] : p_columns[7:0];
  assign bias_column = s_column;

  // ---- results: WS/IS commits the row of each step, OS the rows of the tile that drains, bottom row first
  logic [15:0] d_rows, d_offset, d_row, d_column, d_columns, drain_row;
  logic d_ends_block;
  logic [1:0] d_bank;
  assign drain_row = shifts_left - 1;
  always_ff @(posedge clk) begin
    if (last_step) begin
      d_rows <= s_rows;
      d_offset <= s_offset;
      d_row <= s_row;
      d_column <= s_column;
      d_columns <= s_columns;
      d_ends_block <= s_last;
      d_bank <= bank;
    end
    if (restart) bank <= 0;
    else if (last_step && s_last) bank <= bank + 1 == banks ? 2'd0 : bank + 1;
  end
  assign bank_row = step_now;
  assign bank_read = mac && !output_stationary && s_depth_base != 0;
  assign commit = output_stationary ? shift && drain_row < d_rows : mac;
  assign commit_final = output_stationary || s_last;
  assign commit_ends_block = output_stationary ? shift && drain_row == 0 && d_ends_block : last_step && s_last;
  assign commit_columns = output_stationary ? d_columns[7:0] : s_columns[7:0];
  assign commit_bank = output_stationary ? d_bank : bank;
  assign commit_bank_row = output_stationary ? d_offset + drain_row : step_now;
  assign commit_row = (output_stationary ? d_row : s_row) + commit_bank_row;
  assign commit_column = output_stationary ? d_column : s_column;
  assign tile_starts = starts;

  // ---- classes: stream, push, shift, flush, wait_w, hazard, wait_x, in this order of precedence
  logic unfinished;
  assign unfinished = s_valid || shifts_left != 0;
  always_comb begin
    cycle_class = 0;
    if (unfinished) begin
      if (mac) cycle_class[0] = 1;
      else if (push) cycle_class[1] = 1;
      else if (shift) cycle_class[2] = 1;
      else if (!flushed) cycle_class[3] = 1;
      else if (!output_stationary && !weights_loaded) cycle_class[4] = 1;
      else if (!output_stationary && hazard_left != 0) cycle_class[5] = 1;
      else cycle_class[6] = 1;
    end
  end
endmodule
