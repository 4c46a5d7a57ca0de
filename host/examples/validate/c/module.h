/* The module under test. Yours stands in its place. */
#include <time.h>

struct installation {
    const char *key;      /* file: the private provisioning key, PEM */
    const char *elements; /* folder: the elements of the message, as plugvault.campaign.elements writes them */
    const char *trust;    /* folder: the roots, V2G.der and MO.der */
    const char *store;    /* folder: the contracts of this vehicle */
    const char *session;  /* the SessionID of the open request, hexadecimal digits; "": none is open */
    const char *emaid;    /* the EMAID that this request names; "": none */
    time_t at;            /* the vehicle's clock */
};

/* Check a CertificateInstallationRes and store its contract.
   Returns NULL when it is installed, else the reason of the refusal. */
const char *module_install(const struct installation *given);
