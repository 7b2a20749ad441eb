// Bits of a step token (timing contract, section 3). `wen` and `fin` travel beside the array, on the commit line.
localparam int MAC = 0;    // multiply and accumulate
localparam int CSEL = 1;   // which weight register computes (WS/IS)
localparam int PUSH = 2;   // shift a weight down the column (WS/IS)
localparam int PSEL = 3;   // which weight register is pushed
localparam int FIRST = 4;  // the partial sum starts with the bias
localparam int LAST = 5;   // the accumulator goes to the drain register (OS)
localparam int SHIFT = 6;  // the drain registers move down by one row (OS)
localparam int LIVE = 7;   // the column is inside of the tile; set at the top edge
localparam int TOKEN_W = 8;
