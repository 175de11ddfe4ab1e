"""Every table of the platform, in one metadata: importing a feature's models registers its tables."""

import bwenge.analytics.models
import bwenge.auth.models
import bwenge.chat.models
import bwenge.kit.blobs.models
import bwenge.kit.idempotency.models
import bwenge.kit.jobs.models
import bwenge.knowledge.models
import bwenge.payments.models
import bwenge.persona.models  # noqa: F401  # imported for the tables that they register
from bwenge.kit.db import Base

metadata = Base.metadata
