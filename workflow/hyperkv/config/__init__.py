"""From config/*.yaml to the slices that the rules hand to the stages; every mistake is one line. Only rules import it."""
