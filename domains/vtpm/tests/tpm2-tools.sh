#!/bin/sh
# What a TPM 2.0 is used for, with tpm2-tools. The output is the same for every TPM that works: names of steps, how they
# ended, and what does not depend on the TPM's own secrets. Run it on two TPMs and compare.
#
#   TPM2TOOLS_TCTI=... tpm2-tools.sh DIRECTORY        DIRECTORY is scratch space; the TPM is cleared
#
# Without a resource manager in between, transient objects and sessions are flushed after each step.
set -u
cd "$1" || exit 2
export LC_ALL=C

flush() {
    tpm2_flushcontext -t >/dev/null 2>&1
    tpm2_flushcontext -l >/dev/null 2>&1
    tpm2_flushcontext -s >/dev/null 2>&1
}

# once COMMAND...: runs it, and again if the kernel has not waited for the TPM: for less than a second
# when a tool opens the device and asks what it can, which a busy emulated machine may exceed. A TPM for which the kernel
# never waits long enough is stuck, and that ends the script. `tries` tells when it was not waited for.
once() {
    try=0
    while [ $((try += 1)) -le 30 ]; do
        began=$(date +%s)
        "$@" >out.txt 2>err.txt && return 0
        code=$?
        grep -qE "Could not load tcti|Timer expired" err.txt || return $code
        echo "after $(($(date +%s) - began)) s at $(cut -d. -f1 /proc/uptime) s, try $try: $*" >>tries
    done
    echo "GIVEN UP: $1"
    sed 's/^/    /' err.txt | head -5
    exit 3
}
: >tries

# step NAME COMMAND...: the command must succeed.
step() {
    name=$1
    shift
    if once "$@"; then
        echo "$name: ok"
    else
        echo "$name: FAILED with $?"
        sed 's/^/    /' err.txt | head -5
    fi
}

# refused NAME COMMAND...: the TPM must refuse; its code counts, without the number of the handle or session.
refused() {
    name=$1
    shift
    if once "$@"; then
        echo "$name: SUCCEEDED"
    else
        echo "$name: refused $(grep -o '(0x[0-9A-Fa-f]*)' err.txt | head -1)"
    fi
}

# The last command's output, for what every TPM must say alike.
show() { sed 's/^/    /' out.txt; }
same() { if cmp -s "$1" "$2"; then echo "    $1 is $2"; else echo "    $1 IS NOT $2"; fi; }

printf 'a message to be signed' >message
printf 'a secret to be sealed' >secret
head -c 1000 /dev/zero | tr '\0' 'x' >kilo

step clear-at-start tpm2_clear -c p
step selftest tpm2_selftest --fulltest
step getcap-properties tpm2_getcap properties-fixed
grep -A2 TPM2_PT_FAMILY_INDICATOR out.txt | sed 's/^/    /'
step getcap-algorithms tpm2_getcap algorithms
grep '^[a-z]' out.txt | sed 's/^/    /'
step getcap-commands tpm2_getcap commands
grep -c commandIndex out.txt | sed 's/^/    /'
step getcap-pcrs tpm2_getcap pcrs
show

# Random numbers
step getrandom-32 tpm2_getrandom -o random1 32
step getrandom-again tpm2_getrandom -o random2 32
cmp -s random1 random2 && echo "    THE SAME TWICE"
wc -c <random1 | sed 's/^/    /'

# PCRs
step pcrreset-16 tpm2_pcrreset 16
step pcrreset-23 tpm2_pcrreset 23
step pcrextend tpm2_pcrextend 16:sha1=f1d2d2f924e986ac86fdf7b36c94bcdf32beec15,sha256=b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
step pcrevent tpm2_pcrevent 16 message
step pcrread tpm2_pcrread sha1:16+sha256:16,23+sha384:16+sha512:16
show
refused pcrextend-locality tpm2_pcrextend 20:sha256=b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
refused pcrreset-locality tpm2_pcrreset 0

# Hash
for alg in sha1 sha256 sha384 sha512; do
    step "hash-$alg" tpm2_hash -g $alg --hex message
    show
    echo
done
step hash-long tpm2_hash -g sha256 --hex kilo
show
echo

# Primary keys, keys, signatures
for alg in rsa2048 ecc256 ecc384; do
    step "createprimary-$alg" tpm2_createprimary -C o -g sha256 -G $alg -c primary-$alg.ctx
    flush
done
for parent in rsa2048 ecc256; do
    for alg in rsa2048:rsassa ecc256:ecdsa; do
        key=$parent-${alg%%:*}
        step "create-$key" tpm2_create -C primary-$parent.ctx -g sha256 -G "$alg" -u $key.pub -r $key.priv
        flush
        step "load-$key" tpm2_load -C primary-$parent.ctx -u $key.pub -r $key.priv -c $key.ctx
        flush
        step "readpublic-$key" tpm2_readpublic -c $key.ctx -f pem -o $key.pem
        flush
        step "sign-$key" tpm2_sign -c $key.ctx -g sha256 -o $key.sig message
        flush
        step "verify-$key" tpm2_verifysignature -c $key.ctx -g sha256 -m message -s $key.sig
        flush
        refused "verify-other-$key" tpm2_verifysignature -c $key.ctx -g sha256 -m secret -s $key.sig
        flush
        step "sign-plain-$key" tpm2_sign -c $key.ctx -g sha256 -f plain -o $key.plain message
        flush
        step "openssl-verify-$key" openssl dgst -sha256 -verify $key.pem -signature $key.plain message
        show
        # Attestation
        step "quote-$key" tpm2_quote -c $key.ctx -l sha256:16,23 -q 01020304 -m $key.quote -s $key.quotesig -o $key.pcrs -g sha256
        flush
        step "checkquote-$key" tpm2_checkquote -u $key.pem -m $key.quote -s $key.quotesig -f $key.pcrs -g sha256 -q 01020304
        if tpm2_checkquote -u $key.pem -m $key.quote -s $key.quotesig -f $key.pcrs -g sha256 -q 01020305 >/dev/null 2>&1; then
            echo "    AN OLD QUOTE IS TAKEN"
        fi
        step "certify-$key" tpm2_certify -C $key.ctx -c primary-$parent.ctx -g sha256 -o $key.attest -s $key.attestsig
        flush
    done
done
refused load-under-another-parent tpm2_load -C primary-ecc256.ctx -u rsa2048-rsa2048.pub -r rsa2048-rsa2048.priv -c x.ctx
flush
step rsa-create tpm2_create -C primary-rsa2048.ctx -G rsa2048 -u rsa.pub -r rsa.priv
flush
step rsa-load tpm2_load -C primary-rsa2048.ctx -u rsa.pub -r rsa.priv -c rsa.ctx
flush
step rsa-encrypt tpm2_rsaencrypt -c rsa.ctx -o rsa.enc secret
flush
step rsa-decrypt tpm2_rsadecrypt -c rsa.ctx -o rsa.dec rsa.enc
flush
same rsa.dec secret
step ecdh-create tpm2_create -C primary-ecc256.ctx -G ecc256:ecdh -u ecdh.pub -r ecdh.priv
flush
step ecdh-load tpm2_load -C primary-ecc256.ctx -u ecdh.pub -r ecdh.priv -c ecdh.ctx
flush
step ecdh-keygen tpm2_ecdhkeygen -u ecdh.point -o ecdh.z -c ecdh.ctx
flush
step ecdh-zgen tpm2_ecdhzgen -u ecdh.point -o ecdh.z2 -c ecdh.ctx
flush
same ecdh.z2 ecdh.z

# Non-volatile memory
step nvdefine tpm2_nvdefine 0x01500001 -C o -s 64 -a 'ownerread|ownerwrite|authread|authwrite' -p nvpass
step nvwrite tpm2_nvwrite 0x01500001 -C o -i message
step nvread tpm2_nvread 0x01500001 -C o -s 22
show
echo
step nvread-auth tpm2_nvread 0x01500001 -P nvpass -s 22
refused nvread-wrong-auth tpm2_nvread 0x01500001 -P wrong -s 22
refused nvread-beyond tpm2_nvread 0x01500001 -C o -s 65
refused nvdefine-again tpm2_nvdefine 0x01500001 -C o -s 64 -a 'ownerread|ownerwrite'
step nvdefine-counter tpm2_nvdefine 0x01500002 -C o -a 'ownerread|ownerwrite|authread|authwrite|nt=counter'
step nvincrement tpm2_nvincrement -C o 0x01500002
cp out.txt count0
step nvincrement-again tpm2_nvincrement -C o 0x01500002
step nvdefine-extend tpm2_nvdefine 0x01500003 -C o -g sha256 -a 'ownerread|ownerwrite|nt=extend'
step nvextend tpm2_nvextend -C o -i message 0x01500003
step nvextend-read tpm2_nvread -C o 0x01500003 -o nvextended
od -An -tx1 nvextended | sed 's/^/    /'
step nvdefine-big tpm2_nvdefine 0x01500004 -C o -s 1000 -a 'ownerread|ownerwrite|write_stclear'
step nvwrite-big tpm2_nvwrite 0x01500004 -C o -i kilo
step nvread-big tpm2_nvread 0x01500004 -C o -s 1000 -o kilo.back
same kilo.back kilo
step nvwritelock tpm2_nvwritelock -C o 0x01500004
refused nvwrite-locked tpm2_nvwrite 0x01500004 -C o -i kilo
step nvreadpublic tpm2_nvreadpublic
grep '^0x' out.txt | sed 's/^/    /'
step nvcertify tpm2_nvcertify -C rsa2048-rsa2048.ctx -g sha256 -f plain -s rsassa -o nv.sig --attestation nv.att --size 22 -c o 0x01500001
flush
for index in 1 2 3 4; do
    step "nvundefine-$index" tpm2_nvundefine -C o 0x0150000$index
done
refused nvread-undefined tpm2_nvread 0x01500001 -C o -s 22

# Sealing to PCRs
step policy-session tpm2_startauthsession -S trial.ctx
step policy-pcr tpm2_policypcr -S trial.ctx -l sha256:16,23 -L pcr.policy
step policy-end tpm2_flushcontext trial.ctx
od -An -tx1 pcr.policy | sed 's/^/    /'
step seal tpm2_create -C primary-ecc256.ctx -g sha256 -u seal.pub -r seal.priv -L pcr.policy -i secret
flush
step seal-load tpm2_load -C primary-ecc256.ctx -u seal.pub -r seal.priv -c seal.ctx
flush
step unseal tpm2_unseal -c seal.ctx -p pcr:sha256:16,23
show
echo
flush
step pcrextend-23 tpm2_pcrextend 23:sha256=b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
refused unseal-other-pcrs tpm2_unseal -c seal.ctx -p pcr:sha256:16,23
flush
refused unseal-no-policy tpm2_unseal -c seal.ctx
flush
step pcrreset-23-again tpm2_pcrreset 23
step unseal-again tpm2_unseal -c seal.ctx -p pcr:sha256:16,23
show
echo
flush
step seal-password tpm2_create -C primary-rsa2048.ctx -u sealp.pub -r sealp.priv -i secret -p sesame
flush
step seal-password-load tpm2_load -C primary-rsa2048.ctx -u sealp.pub -r sealp.priv -c sealp.ctx
flush
step unseal-password tpm2_unseal -c sealp.ctx -p sesame -o sealp.out
flush
same sealp.out secret

# Persistent objects
step evict tpm2_evictcontrol -C o -c primary-rsa2048.ctx 0x81000001
flush
step getcap-persistent tpm2_getcap handles-persistent
show
step persistent-use tpm2_create -C 0x81000001 -G ecc256 -u pers.pub -r pers.priv
flush
step unevict tpm2_evictcontrol -C o -c 0x81000001
refused persistent-gone tpm2_readpublic -c 0x81000001

# Symmetric keys
step hmac-create tpm2_create -C primary-ecc256.ctx -G hmac -u hmac.pub -r hmac.priv
flush
step hmac-load tpm2_load -C primary-ecc256.ctx -u hmac.pub -r hmac.priv -c hmac.ctx
flush
step hmac tpm2_hmac -c hmac.ctx -o hmac1 message
flush
step hmac-again tpm2_hmac -c hmac.ctx -o hmac2 message
flush
same hmac2 hmac1
printf '0123456789abcdef' >hmac.key
step hmac-import tpm2_import -C primary-ecc256.ctx -G hmac -i hmac.key -u hmaci.pub -r hmaci.priv
flush
step hmac-import-load tpm2_load -C primary-ecc256.ctx -u hmaci.pub -r hmaci.priv -c hmaci.ctx
flush
step hmac-known tpm2_hmac --hex -c hmaci.ctx message
show
flush
step aes-create tpm2_create -C primary-ecc256.ctx -G aes128cfb -u aes.pub -r aes.priv
flush
step aes-load tpm2_load -C primary-ecc256.ctx -u aes.pub -r aes.priv -c aes.ctx
flush
step encrypt tpm2_encryptdecrypt -c aes.ctx -o aes.enc message
flush
step decrypt tpm2_encryptdecrypt -d -c aes.ctx -o aes.dec aes.enc
flush
same aes.dec message

# Duplication
step dup-session tpm2_startauthsession -S dup.ctx
step dup-policy tpm2_policycommandcode -S dup.ctx -L dup.policy TPM2_CC_Duplicate
step dup-session-end tpm2_flushcontext dup.ctx
step dup-create tpm2_create -C primary-rsa2048.ctx -g sha256 -G rsa2048 -r dup.priv -u dup.pub -L dup.policy -a 'sensitivedataorigin|userwithauth|decrypt|sign'
flush
step dup-load tpm2_load -C primary-rsa2048.ctx -r dup.priv -u dup.pub -c dup-key.ctx
flush
step dup-readpublic tpm2_readpublic -c dup-key.ctx -o dup-key.pub
flush
step dup-parent tpm2_createprimary -C n -g sha256 -G ecc256 -c newparent.ctx
flush
step dup-auth tpm2_startauthsession --policy-session -S dup2.ctx
step dup-auth-policy tpm2_policycommandcode -S dup2.ctx -L x.policy TPM2_CC_Duplicate
step duplicate tpm2_duplicate -C newparent.ctx -c dup-key.ctx -G null -p session:dup2.ctx -r dup-new.priv -s dup-new.seed
flush
step import tpm2_import -C newparent.ctx -u dup-key.pub -i dup-new.priv -r dup-imported.priv -s dup-new.seed -L dup.policy
flush
step import-load tpm2_load -C newparent.ctx -u dup-key.pub -r dup-imported.priv -c dup-imported.ctx
flush

# Credentials
step createek tpm2_createek -c ek.ctx -G ecc -u ek.pub
flush
step createak tpm2_createak -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -n ak.name
flush
step makecredential tpm2_makecredential -e ek.pub -s secret -n "$(od -An -tx1 ak.name | tr -d ' \n')" -o credential
flush
step act-session tpm2_startauthsession --policy-session -S act.ctx
step act-policy tpm2_policysecret -S act.ctx -c e
step activatecredential tpm2_activatecredential -c ak.ctx -C ek.ctx -i credential -o credential.out -P session:act.ctx
flush
same credential.out secret

# Dictionary attacks
step da-setup tpm2_dictionarylockout -s -n 3 -t 1000 -l 1000
step da-create tpm2_create -C primary-ecc256.ctx -g sha256 -G ecc256:ecdsa -u da.pub -r da.priv -p right -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign'
flush
step da-load tpm2_load -C primary-ecc256.ctx -u da.pub -r da.priv -c da.ctx
flush
for try in 1 2 3; do
    refused "da-wrong-$try" tpm2_sign -c da.ctx -p wrong -g sha256 -o x.sig message
    flush
done
refused da-locked tpm2_sign -c da.ctx -p right -g sha256 -o x.sig message
flush
step da-reset tpm2_dictionarylockout -c
step da-unlocked tpm2_sign -c da.ctx -p right -g sha256 -o x.sig message
flush

# Hierarchies
step changeauth tpm2_changeauth -c o ownerpass
refused owner-without tpm2_createprimary -C o -G ecc256 -c x.ctx
flush
step owner-with tpm2_createprimary -C o -P ownerpass -G ecc256 -c x.ctx
flush
step changeauth-back tpm2_changeauth -c o -p ownerpass
step readclock tpm2_readclock
step getcap-variable tpm2_getcap properties-variable
grep -E 'ownerAuthSet|lockoutAuthSet|inLockout|phEnable|shEnable' out.txt | sed 's/^/    /'
step incrementalselftest tpm2_incrementalselftest rsa ecc aes
step gettestresult tpm2_gettestresult
step clear tpm2_clear -c p
refused load-after-clear tpm2_load -C primary-rsa2048.ctx -u rsa.pub -r rsa.priv -c x.ctx
flush
step createprimary-after-clear tpm2_createprimary -C o -G ecc256 -c after.ctx
flush
