"""Object stores: a folder or an S3 prefix behind one interface, whose objects are created once."""
