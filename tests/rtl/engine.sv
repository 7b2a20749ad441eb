// The array's controller: it issues one step token per cycle at the corner, following the timing contract, sections 4.1
// to 4.4, and books every cycle before the tail under one class (section 4.3). Readiness comes in as levels, as from
// token counters: the engine never knows a time in advance.
module engine #(
    parameter int R = 4,
    parameter int C = 4
) (
    input  logic        clk,
    input  logic        restart,
    input  logic        output_stationary,
    input  logic        input_stationary,   // the activations are the pushed operand
    input  logic [ 7:0] gather_words,       // activations per cycle, 0: as many as there are lanes
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
    output logic [15:0] push_block,
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
      .valid(p_valid), .index(push_tile), .block(push_block), .column_base(p_column), .row_base(), .row_offset(),
      .depth_base(p_depth_base), .rows(), .depth(p_depth), .columns(p_columns), .first_of_block(), .last_of_block()
  );

  // ---- issue slots per step: all lanes at once, or `gather_words` activations per cycle (section 4.5).
  // The activations are the streamed operand of WS and OS, and the pushed one of IS. A step's token is issued in the last of its slots.
  logic [15:0] s_slots, p_slots, s_lanes;
  assign s_lanes = output_stationary ? s_rows : s_depth;
  assign s_slots = gather_words == 0 || input_stationary ? 16'd1 : (s_lanes + gather_words - 1) / gather_words;
  assign p_slots = gather_words == 0 || !input_stationary ? 16'd1 : (p_columns + gather_words - 1) / gather_words;

  // ---- streaming
  logic streaming, starts, working, mac, first_step, last_step, shift, drained, flushed, hazard, may_start;
  logic [15:0] step, step_now, steps, slot, slot_now, length, length_before, since_start, distance;
  logic [15:0] flush_left, shifts_left;
  logic weights_loaded;

  assign steps = output_stationary ? s_depth : s_rows;
  assign length = steps * s_slots;
  assign flushed = flush_left == 0;
  // Overlapped: the shifts that are left must fit behind the first step of the tile, which needs the v wire for its
  // bias.
  assign drained = drain_overlap && !flush_between_tiles ? shifts_left < length : shifts_left == 0;
  assign weights_loaded = push_tile > stream_tile;
  // A row is read R + 2 cycles after the step that produces it was issued, at the earliest: that must hold for the
  // first row, and for the last one if this tile's steps are shorter than those of the tile before.
  assign distance = 16'(R + 2) + (length_before > length ? length_before - length : 16'd0);
  assign hazard = !output_stationary && !s_first && since_start < distance;
  assign may_start = operands_ready && (bank_free || !s_first) && flushed
      && (output_stationary ? drained : weights_loaded && !hazard);
  assign starts = s_valid && !streaming && may_start;
  assign working = streaming || starts;
  assign step_now = streaming ? step : 16'd0;
  assign slot_now = streaming ? slot : 16'd0;
  assign mac = working && slot_now + 1 == s_slots;
  assign first_step = mac && step_now == 0;
  assign last_step = mac && step_now + 1 == steps;
  assign s_advance = last_step;
  assign shift = output_stationary && shifts_left != 0 && !first_step;

  always_ff @(posedge clk) begin
    if (restart) begin
      streaming <= 0;
      step <= 0;
      slot <= 0;
      since_start <= 0;
      length_before <= 0;
      flush_left <= 0;
      shifts_left <= 0;
    end else begin
      streaming <= working && !last_step;
      slot <= mac ? 16'd0 : slot_now + 1;
      step <= step_now + 16'(mac);
      if (starts) since_start <= 1;
      else if (since_start != 16'hffff) since_start <= since_start + 1;
      if (starts) length_before <= length;
      if (output_stationary && last_step) shifts_left <= 16'(R);
      else if (shift) shifts_left <= shifts_left - 1;
      if (flush_between_tiles && s_valid && (output_stationary ? shift && shifts_left == 1 : last_step))
        flush_left <= 16'(R + C);
      else if (flush_left != 0) flush_left <= flush_left - 1;
    end
  end

  // ---- pushing weights
  logic pushing, push_works, push, base_reached, last_push;
  logic [15:0] push_step, push_now, push_slot, push_slot_now, push_length, push_row;

  assign push_length = full_weight_load ? 16'(R) : p_depth;
  // Double-buffered: from the first step of the tile before. Single-buffered: after its last step.
  assign base_reached = push_tile == stream_tile ? !streaming && flushed
      : double_buffer && !flush_between_tiles && push_tile == stream_tile + 1 && working;
  assign push_starts = !output_stationary && p_valid && !pushing && base_reached && weights_ready;
  assign push_works = pushing || push_starts;
  assign push_now = pushing ? push_step : 16'd0;
  assign push_slot_now = pushing ? push_slot : 16'd0;
  assign push = push_works && push_slot_now + 1 == p_slots;
  assign last_push = push && push_now + 1 == push_length;
  assign push_row = push_length - 1 - push_now;
  assign p_advance = last_push;

  always_ff @(posedge clk) begin
    if (restart) begin
      pushing   <= 0;
      push_step <= 0;
      push_slot <= 0;
    end else begin
      pushing   <= push_works && !last_push;
      push_slot <= push ? 16'd0 : push_slot_now + 1;
      push_step <= push_now + 16'(push);
    end
  end

  // ---- the step token and its operands
  assign token[MAC] = mac;
  assign token[CSEL] = double_buffer && stream_tile[0];
  assign token[PUSH] = push;
  assign token[PSEL] = double_buffer && push_tile[0];
  assign token[FIRST] = mac && (output_stationary ? step_now == 0 : s_depth_base == 0);
  assign token[LAST] = output_stationary && last_step;
  assign token[SHIFT] = shift;
  assign token[LIVE] = 0;
  assign live_rows = s_lanes[7:0];
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
      if (working) cycle_class = 7'b0000001;
      else if (push_works) cycle_class = 7'b0000010;
      else if (shift) cycle_class = 7'b0000100;
      else if (!flushed) cycle_class = 7'b0001000;
      else if (!output_stationary && !weights_loaded) cycle_class = 7'b0010000;
      else if (hazard) cycle_class = 7'b0100000;
      else cycle_class = 7'b1000000;
    end
  end
endmodule
