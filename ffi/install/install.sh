#!/bin/sh
# Builds and installs the C and C++ side: header files, shared and static library, pkg-config and CMake files.
# Needs cargo and a shell. Settings, by environment: PREFIX (/usr/local), LIBDIR ($PREFIX/lib),
# INCLUDEDIR ($PREFIX/include), DESTDIR (put in front of all of them, for packagers), CARGO (cargo).
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib}
includedir=${INCLUDEDIR:-$prefix/include}
destdir=${DESTDIR:-}
cargo=${CARGO:-cargo}
here=$root/ffi/install

case $prefix$libdir$includedir in
    *[!A-Za-z0-9/._+@~-]*) echo "install: PREFIX, LIBDIR and INCLUDEDIR may hold letters, digits and /._+@~- only" >&2; exit 1 ;;
esac
case $prefix in
    /*) ;;
    *) echo "install: PREFIX must be an absolute path, and is $prefix" >&2; exit 1 ;;
esac

cd "$root"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
major=${version%%.*}
minor=${version#*.}
minor=${minor%%.*}
# Until 1.0 each minor version has an ABI of its own: the same rule as in ffi/build.rs.
if [ "$major" = 0 ]; then abi=0.$minor; else abi=$major; fi

"$cargo" build --quiet --release --package libwal-ffi
built=${CARGO_TARGET_DIR:-target}/release

put() { # mode, source, directory, name
    mkdir -p "$destdir$3"
    # Away with the old one first: a program may be running it.
    rm -f "$destdir$3/$4"
    cp "$2" "$destdir$3/$4"
    chmod "$1" "$destdir$3/$4"
}

filled() { # template -> standard output
    sed -e "s|@prefix@|$prefix|g" -e "s|@libdir@|$libdir|g" -e "s|@includedir@|$includedir|g" \
        -e "s|@version@|$version|g" -e "s|@major@|$major|g" -e "s|@minor@|$minor|g" -e "s|@shared@|$shared|g" "$1"
}

put 644 include/wal.h "$includedir" wal.h
put 644 include/wal.hpp "$includedir" wal.hpp
put 644 "$built/libwal.a" "$libdir" libwal.a
if [ "$(uname)" = Darwin ]; then
    shared=libwal.dylib
    put 755 "$built/libwal.dylib" "$libdir" libwal.dylib
else
    shared=libwal.so.$abi
    put 755 "$built/libwal.so" "$libdir" "libwal.so.$version"
    ln -sf "libwal.so.$version" "$destdir$libdir/libwal.so.$abi"
    ln -sf "libwal.so.$abi" "$destdir$libdir/libwal.so"
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for file in wal.pc walConfig.cmake walConfigVersion.cmake; do
    filled "$here/$file.in" > "$scratch/$file"
done
put 644 "$scratch/wal.pc" "$libdir/pkgconfig" wal.pc
put 644 "$scratch/walConfig.cmake" "$libdir/cmake/wal" walConfig.cmake
put 644 "$scratch/walConfigVersion.cmake" "$libdir/cmake/wal" walConfigVersion.cmake
echo "libwal $version installed in $destdir$prefix"
