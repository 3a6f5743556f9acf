"""Building blocks: modules that know no loss, loop or file."""
