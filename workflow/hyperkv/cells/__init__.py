"""What engines share: a cell, its evidence, its samples."""
