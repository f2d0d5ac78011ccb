#!/bin/sh
# All that runs in the guest. It writes files, and says on the second serial line what has to survive; the first is the kernel's.
# When it has booted it is saved, and all lives of a guest go on from there: nothing before has anything to do with the disk, and nothing
# that the kernel takes for random differs. A life begins with a line `.SEED TAG`: the seed, by which sizes, contents and kinds of work
# are chosen, and a name for this life. (The full stop is waited for, again and again; the rest then comes whole.)
#
#   ready              booted; nothing is known of the disk. Said until a life begins
#   mounted            the file system is there, and work begins
#   writing FILE       FILE may hold anything from now on
#   removing FILE      FILE may be gone from now on
#   synced FILE SUM    FILE is durable, and this is its MD5 sum
#   failed WHAT        something went wrong
#   unmounted          after a line `stop` was heard, all is written, and nothing went wrong that anybody noticed
#
# Files whose name ends with a sum get that name when they are durable: whenever the power is cut, they hold that or are not there.

PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
exec </dev/ttyS1 >/dev/ttyS1 2>/dev/null
stty raw -echo

fail() {
    echo "failed $*"
    exit 1
}

# So many bytes into a file: numbers from one on that is this life's, this writer's and this file's; sets `sum`.
bytes() {
    first=$((((seed * 2 + $3 - 1) * 4096 + count) * 8192))
    seq "$first" $((first + $2 / 2)) | head -c "$2" >"$1"
    sum=$(md5sum <"$1")
    sum=${sum%% *}
}

# Files come under their names when they are durable, one in the same place is overwritten, and some are removed.
writer() {
    home=$tag-$1
    from=/tmp/$1
    RANDOM=$((seed + $1))
    count=0
    former=
    mkdir "/mnt/$home" || fail "mkdir $home"
    while [ ! -e /stop ]; do
        count=$((count + 1))
        choice=$((RANDOM % 5))
        if [ $choice = 0 ]; then
            bytes "$from" 16384 "$1"
            echo "writing $home/cell"
            dd if="$from" of="/mnt/$home/cell" bs=4096 conv=notrunc,fsync || fail "writing $home/cell"
            echo "synced $home/cell $sum"
        elif [ $choice = 1 ] && [ -n "$former" ]; then
            echo "removing $former"
            rm "/mnt/$former" || fail "removing $former"
            former=
        else
            bytes "$from" $((RANDOM + 1)) "$1"
            dd if="$from" of="/mnt/$home/new" bs=65536 conv=fsync || fail "writing $home/new"
            former=$home/$count.$sum
            mv "/mnt/$home/new" "/mnt/$former" || fail "renaming to $former"
            sync "/mnt/$home" || fail "syncing $home"
            echo "synced $former $sum"
        fi
    done
}

# Much that nobody asks to be durable.
churn() {
    home=/mnt/$tag-churn
    while [ ! -e /stop ]; do
        mkdir -p "$home/a/b" || fail "mkdir $home"
        dd if=/dev/zero of="$home/a/b/big" bs=65536 count=24 || fail "writing $home"
        cp "$home/a/b/big" "$home/a/copy" || fail "copying in $home"
        mv "$home/a/b" "$home/c" || fail "renaming in $home"
        rm -r "$home/a" "$home/c" || fail "removing in $home"
    done
}

# What was there before any guest is read from the disk again and again.
reader() {
    while [ ! -e /stop ]; do
        echo 1 >/proc/sys/vm/drop_caches
        for file in /mnt/first/*; do
            sum=$(md5sum <"$file") || fail "reading $file"
            [ "${sum%% *}" = "${file##*.}" ] || fail "$file has sum $sum"
        done
    done
}

load() {
    insmod "/modules/$1" || fail "insmod $1"
}

disk=
while read -r module; do
    case $module in
    virtio_blk) disk=$module ;;
    *) load "$module" ;;
    esac
done </modules/list
until read -r -n 1 -t 0.1 sign; do
    echo ready
done
read -r seed tag
[ -z "$disk" ] || load "$disk"
mount -t ext4 /dev/vda /mnt || fail "mount"
echo mounted
writer 1 &
writer 2 &
churn &
[ ! -e /mnt/first ] || reader &
while read -r line && [ "$line" != stop ]; do :; done
touch /stop
wait
umount /mnt || fail "umount"
echo unmounted
poweroff -f
