"""A scored data set for people and other programs: tables, pictures, moments files."""
