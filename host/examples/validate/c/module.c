/* A vehicle's installation of a contract, on OpenSSL 3 [ISO 15118-2:2014, 8.4.3.8 and 7.9.2].

   Every check that needs mathematics is OpenSSL's: certificate paths, the signature of the CPS, the
   key agreement, and the comparison of the opened key with the certificate. The opened key goes
   into a file, where a vehicle has a secure element. Nothing is freed: a process handles one
   message. */
#include "module.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

enum { LARGEST = 16384, POINT = 65, SCALAR = 32, BLOCK = 16, SUBS = 2 };

/* The members of Signature, and no others [V2G2-767..771]. */
static const char MEMBERS[] =
    "1 SignedInfo/CanonicalizationMethod/Algorithm http://www.w3.org/TR/canonical-exi/\n"
    "1 SignedInfo/SignatureMethod/Algorithm http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256\n"
    "4 SignedInfo/Reference/URI\n"
    "4 SignedInfo/Reference/Transforms/Transform/Algorithm http://www.w3.org/TR/canonical-exi/\n"
    "4 SignedInfo/Reference/DigestMethod/Algorithm http://www.w3.org/2001/04/xmlenc#sha256\n"
    "4 SignedInfo/Reference/DigestValue\n"
    "1 SignatureValue/value\n";
static const char *const SIGNED[] = {"ContractSignatureCertChain.exi", "DHpublickey.exi",
                                     "ContractSignatureEncryptedPrivateKey.exi", "eMAID.exi"};
static const unsigned char OTHER_INFO[] = {0x01, 'U', 'V'};

/* -- files -- */

static FILE *opened(const char *folder, const char *name, const char *mode)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return NULL;
    return fopen(path, mode);
}

/* The length of a file's content; -1 without the file. A longer file is cut off. */
static int content(const char *folder, const char *name, unsigned char data[LARGEST])
{
    FILE *file = opened(folder, name, "rb");
    if (file == NULL)
        return -1;
    int length = (int)fread(data, 1, LARGEST - 1, file);
    fclose(file);
    data[length] = 0;
    return length;
}

static int is_text(const char *folder, const char *name, const char *expected)
{
    unsigned char text[LARGEST];
    return content(folder, name, text) >= 0 && strcmp((char *)text, expected) == 0;
}

static X509 *certificate(const char *folder, const char *name)
{
    FILE *file = opened(folder, name, "rb");
    X509 *read = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    if (file)
        fclose(file);
    return read;
}

/* All certificates of a PEM file; NULL when one of them cannot be read. */
static STACK_OF(X509) *certificates(const char *folder, const char *name)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    BIO *text = BIO_new(BIO_s_mem());
    unsigned char data[LARGEST];
    int length = content(folder, name, data), expected = 0;
    for (char *at = (char *)data; length > 0 && (at = strstr(at, "-----BEGIN")); at++)
        expected++;
    BIO_write(text, data, length > 0 ? length : 0);
    for (X509 *next; (next = PEM_read_bio_X509(text, NULL, NULL, NULL));)
        sk_X509_push(all, next);
    BIO_free(text);
    return sk_X509_num(all) == expected ? all : NULL;
}

/* -- certificate paths -- */

static int is_p256(X509 *subject)
{
    char curve[80] = "";
    EVP_PKEY *key = X509_get0_pubkey(subject);
    return key && EVP_PKEY_get_group_name(key, curve, sizeof curve, NULL) &&
           strcmp(curve, "prime256v1") == 0;
}

/* Whether the path of a leaf ends at a root, with no more than two sub-CAs, at this time. */
static int is_trusted(X509 *leaf, STACK_OF(X509) *subs, const char *trust, const char *root, time_t at)
{
    FILE *file = opened(trust, root, "rb");
    X509 *anchor = file ? d2i_X509_fp(file, NULL) : NULL;
    if (file)
        fclose(file);
    if (anchor == NULL || subs == NULL || !is_p256(leaf) || (X509_get_extension_flags(leaf) & EXFLAG_CA))
        return 0;
    if (!(X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE) || sk_X509_num(subs) > SUBS)
        return 0;
    for (int number = 0; number < sk_X509_num(subs); number++) {
        X509 *sub = sk_X509_value(subs, number);
        if (!is_p256(sub) || X509_check_ca(sub) != 1) /* 1: by BasicConstraints */
            return 0;
    }
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *path = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, anchor);
    X509_STORE_CTX_init(path, store, leaf, subs);
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(path), at);
    return X509_verify_cert(path) == 1;
}

/* The value of the one attribute of this kind in a certificate's subject; "" otherwise. */
static const char *attribute(X509 *subject, int kind, char text[64])
{
    X509_NAME *name = X509_get_subject_name(subject);
    int first = X509_NAME_get_index_by_NID(name, kind, -1);
    text[0] = 0;
    if (first >= 0 && X509_NAME_get_index_by_NID(name, kind, first) < 0)
        X509_NAME_get_text_by_NID(name, kind, text, 64);
    return text;
}

/* -- the signature of the CPS -- */

/* Whether the four elements are referenced, each once, by the digests that they have. */
static int is_covered(const char *elements)
{
    unsigned char text[LARGEST], data[LARGEST], digest[SHA256_DIGEST_LENGTH];
    int lines = 0;
    if (content(elements, "references", text) < 0)
        return 0;
    for (char *at = (char *)text; (at = strchr(at, '\n')); at++)
        lines++;
    for (int number = 0; number < 4; number++) {
        char line[160];
        int length = content(elements, SIGNED[number], data), used = 0;
        if (length < 0)
            return 0;
        SHA256(data, (size_t)length, digest);
        for (int at = 0; at < SHA256_DIGEST_LENGTH; at++)
            used += sprintf(line + used, "%02x", digest[at]);
        sprintf(line + used, "  %s\n", SIGNED[number]);
        if (strstr((char *)text, line) == NULL)
            return 0;
    }
    return lines == 4;
}

static int is_signed(const char *elements, X509 *signer)
{
    unsigned char info[LARGEST], der[LARGEST]; /* r and s in DER, of a value with 64 bytes */
    int length = content(elements, "signed-info.exi", info);
    int size = content(elements, "signature.der", der);
    if (length < 0 || size < 0)
        return 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, X509_get0_pubkey(signer));
    return EVP_DigestVerify(context, der, (size_t)size, info, (size_t)length) == 1;
}

/* -- the key -- */

static EVP_PKEY *point_key(const unsigned char *point, size_t length)
{
    EVP_PKEY *key = EVP_PKEY_new();
    EVP_PKEY *curve = EVP_EC_gen("prime256v1"); /* for its parameters */
    EVP_PKEY_copy_parameters(key, curve);
    return EVP_PKEY_set1_encoded_public_key(key, point, length) == 1 ? key : NULL;
}

/* The shared secret Z, which has always 32 bytes. */
static int agreed(const char *file_name, EVP_PKEY *peer, unsigned char z[SCALAR])
{
    FILE *file = fopen(file_name, "r");
    EVP_PKEY *own = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
    size_t length = SCALAR;
    if (file)
        fclose(file);
    EVP_PKEY_CTX *context = own ? EVP_PKEY_CTX_new(own, NULL) : NULL;
    return context && EVP_PKEY_derive_init(context) == 1 &&
           EVP_PKEY_derive_set_peer(context, peer) == 1 &&
           EVP_PKEY_derive(context, z, &length) == 1 && length == SCALAR;
}

/* The contract's scalar: AES-128-CBC, its key by SP 800-56A with SHA-256 [V2G2-818]. */
static int unsealed(const unsigned char z[SCALAR], const unsigned char *sealed, unsigned char scalar[SCALAR])
{
    unsigned char input[4 + SCALAR + sizeof OTHER_INFO] = {0, 0, 0, 1};
    unsigned char key[SHA256_DIGEST_LENGTH];
    int length = 0;
    memcpy(input + 4, z, SCALAR);
    memcpy(input + 4 + SCALAR, OTHER_INFO, sizeof OTHER_INFO);
    SHA256(input, sizeof input, key);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    EVP_DecryptInit_ex(context, EVP_aes_128_cbc(), NULL, key, sealed);
    EVP_CIPHER_CTX_set_padding(context, 0);
    return EVP_DecryptUpdate(context, scalar, &length, sealed + BLOCK, SCALAR) && length == SCALAR;
}

/* Whether d lies between 1 and n-1, and d*G is the key of the certificate. */
static int is_key_of(const unsigned char scalar[SCALAR], X509 *subject)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    BIGNUM *d = BN_bin2bn(scalar, SCALAR, NULL);
    if (BN_is_zero(d) || BN_cmp(d, EC_GROUP_get0_order(group)) >= 0)
        return 0;
    unsigned char own[POINT], *certified = NULL;
    EC_POINT *public = EC_POINT_new(group);
    EC_POINT_mul(group, public, d, NULL, NULL, NULL);
    EC_POINT_point2oct(group, public, POINT_CONVERSION_UNCOMPRESSED, own, POINT, NULL);
    size_t length = EVP_PKEY_get1_encoded_public_key(X509_get0_pubkey(subject), &certified);
    return length == POINT && memcmp(own, certified, POINT) == 0;
}

/* -- the store -- */

/* The fault of a DH point: it has come before, or cannot be written down. That happens before its
   envelope is opened: with the same key, CBC answers questions about the old envelope. The hidden
   file is no part of the state. A full one takes no point, as none is forgotten. */
static const char *replay(const char *store, const unsigned char *point)
{
    unsigned char seen[LARGEST];
    int length = content(store, ".points", seen);
    for (int at = 0; at + SCALAR <= length; at += SCALAR)
        if (memcmp(seen + at, point + 1, SCALAR) == 0) /* X alone: P and -P have one secret */
            return "key transport: the DH point has come before";
    if (length + SCALAR >= LARGEST)
        return "store: it has no room for a DH point";
    FILE *file = opened(store, ".points", "ab");
    int is_written = file && fwrite(point + 1, 1, SCALAR, file) == SCALAR;
    return file && fclose(file) == 0 && is_written ? NULL : "store: it cannot be written";
}

/* Whether the stored contract of this EMAID is newer. */
static int is_older(const char *store, const char *emaid, X509 *contract)
{
    X509 *stored = certificate(store, emaid);
    return stored && ASN1_TIME_compare(X509_get0_notBefore(contract), X509_get0_notBefore(stored)) < 0;
}

static int is_stored(const char *store, const char *emaid, X509 *contract, const unsigned char *scalar)
{
    FILE *file = opened(store, emaid, "w");
    int is_written = file && PEM_write_X509(file, contract);
    for (int at = 0; is_written && at < SCALAR; at++)
        is_written = fprintf(file, "%02x", scalar[at]) == 2;
    return file && fclose(file) == 0 && is_written;
}

/* An EMAID without its hyphens, or an empty text for one that is none. */
static const char *normal_emaid(const char *text, char emaid[16])
{
    int length = 0, is_good = 1;
    for (int at = 0; text[at] && is_good; at++) {
        if (text[at] == '-' && (at == 2 || at == 6 || at == 16))
            continue;
        is_good = length < 15 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", text[at]);
        if (is_good)
            emaid[length++] = text[at];
    }
    emaid[is_good && length >= 14 ? length : 0] = 0;
    return emaid;
}

/* -- the installation -- */

static const char *check_message(const struct installation *given, X509 *cps)
{
    char role[64];
    if (!is_text(given->elements, "code", "OK"))
        return "response code: not OK";
    if (!given->session[0] || !is_text(given->elements, "session", given->session))
        return "session: no request of this session is open";
    STACK_OF(X509) *subs = certificates(given->elements, "cps-subs.pem");
    if (!cps || !is_trusted(cps, subs, given->trust, "V2G.der", given->at))
        return "CPS path: not trusted";
    if (strcmp(attribute(cps, NID_domainComponent, role), "CPS"))
        return "CPS path: the leaf is no CPS";
    if (!is_text(given->elements, "members", MEMBERS))
        return "signature: a member or an algorithm";
    if (!is_covered(given->elements))
        return "signature: the references";
    return is_signed(given->elements, cps) ? NULL : "signature: not of the CPS";
}

static const char *open_envelope(const struct installation *given, X509 *contract, unsigned char *scalar)
{
    unsigned char point[LARGEST], sealed[LARGEST], z[SCALAR];
    EVP_PKEY *peer = NULL;
    if (content(given->elements, "dh.bin", point) == POINT && point[0] == 4)
        peer = point_key(point, POINT);
    if (peer == NULL)
        return "key transport: DHpublickey is no point of the curve";
    if (content(given->elements, "encrypted.bin", sealed) != BLOCK + SCALAR)
        return "key transport: not 48 bytes";
    const char *refusal = replay(given->store, point);
    if (refusal)
        return refusal;
    if (!agreed(given->key, peer, z) || !unsealed(z, sealed, scalar))
        return "key transport: no key agreement";
    return is_key_of(scalar, contract) ? NULL : "key: not that of the certificate";
}

const char *module_install(const struct installation *given)
{
    unsigned char text[LARGEST], scalar[SCALAR];
    char emaid[16], certified[16], name[64];
    X509 *contract = certificate(given->elements, "contract.pem");
    const char *refusal = check_message(given, certificate(given->elements, "cps.pem"));
    if (refusal)
        return refusal;
    STACK_OF(X509) *subs = certificates(given->elements, "contract-subs.pem");
    if (!contract || !is_trusted(contract, subs, given->trust, "MO.der", given->at))
        return "contract path: not trusted";
    if (strcmp(attribute(contract, NID_domainComponent, name), "CPS") == 0)
        return "contract path: the leaf is no contract";
    if (content(given->elements, "emaid", text) < 0 || !normal_emaid((char *)text, emaid)[0])
        return "EMAID: none";
    if (strcmp(emaid, normal_emaid(attribute(contract, NID_commonName, name), certified)))
        return "EMAID: not that of the certificate";
    if (given->emaid[0] && strcmp(emaid, given->emaid))
        return "EMAID: not the requested one";
    if (is_older(given->store, emaid, contract))
        return "store: a newer contract is there";
    refusal = open_envelope(given, contract, scalar);
    if (refusal)
        return refusal;
    return is_stored(given->store, emaid, contract, scalar) ? NULL : "store: it cannot be written";
}
