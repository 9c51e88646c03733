raise OSError("libfancy.so is missing")
